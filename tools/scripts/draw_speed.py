"""Draw the speed figure from the JSON lines of a benchmark, print its tables, and fill the pages that show them.

python -m tools.bench.images --rivals                                      measure, into bench-out/bench_images.jsonl
python -m tools.scripts.draw_speed bench-out/bench_images.jsonl            draw docs/pictures/speed.svg, print tables
python -m tools.scripts.draw_speed bench-out/bench_images.jsonl --pages    also fill README.md and docs/benchmarks.md
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tools.bench.rivals.report import headline
from tools.bench.speed import draw_speed, read_run, speed_sentence, speed_tables

__all__ = ["fill", "main"]

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> None:
    """Draw the chart, print the tables, and with ``--pages`` fill the pages.

    Args:
        root: folder that holds README.md and docs.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lines", type=Path, help="JSON lines of tools.bench.images or of make bench")
    picture = root / "docs" / "pictures" / "speed.svg"
    parser.add_argument("out", type=Path, nargs="?", default=picture, help="picture to write (default: %(default)s)")
    parser.add_argument("--pages", action="store_true", help="also fill README.md and docs/benchmarks.md")
    given = parser.parse_args(arguments)
    about, results = read_run(given.lines)
    draw_speed(about, results, given.out)
    tables = f"{headline(about)}; {about['when'][:10]}.\n\n{speed_tables(results)}"
    print(f"{tables}\n\n{given.out}: speed of {len({line['result'] for line in results})} loaders")
    if given.pages:
        sentence = speed_sentence(about, results)
        for page, text in (("README.md", textwrap.fill(sentence, 120)), ("docs/benchmarks.md", tables)):
            fill(root / page, text)
            print(f"{root / page}: filled between its two speed comments")


def fill(page: Path, text: str) -> None:
    """Replace the text between ``<!-- speed: begin … -->`` and ``<!-- speed: end -->`` in a page.

    Raises:
        ValueError: the page does not hold the two comments exactly once.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    begin = [number for number, line in enumerate(lines) if line.startswith("<!-- speed: begin")]
    end = [number for number, line in enumerate(lines) if line == "<!-- speed: end -->"]
    if len(begin) != 1 or len(end) != 1 or begin[0] > end[0]:
        raise ValueError(f"{page} must hold one line '<!-- speed: begin … -->' and after it '<!-- speed: end -->'")
    filled = [*lines[: begin[0] + 1], "", *text.splitlines(), "", *lines[end[0] :]]
    page.write_text("\n".join(filled) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
