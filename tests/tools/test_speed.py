"""The speed chart and its tables: drawn from JSON lines of a run, and filled into pages without hand work."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tools.bench.rivals.arena import Result
from tools.bench.rivals.report import machine
from tools.bench.speed import read_run, speed_sentence, speed_tables
from tools.scripts.draw_speed import ROOT, main

RUN = [
    Result("ours", "W1", [90.0, 110.0], first_batch_s=[0.05], cpu_ms=[1.5], pss_mb=[800.0], mean_off=0.0, max_off=1.0),
    Result("ours-tiles", "W1", disturbed=[150.0]),
    Result("webdataset-pil", "W1", [40.0]),
    Result("webdataset-rgb8", "W1", [50.0]),
    Result("dali", "W1", failure="not installed: no wheel"),
    Result("decode", "W1", [200.0]),
    Result("ours", "W3", [300.0]),
    Result("dali", "W3", [150.0]),
]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    about = machine() | {"workers": 2, "rounds": 1, "cores": 2}
    path = tmp_path / "bench_images.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in [about, {"trial": "ours"}, *[r.summary() for r in RUN]]))
    return path


def page(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("before\n\n<!-- speed: begin (here) -->\nold figures\n<!-- speed: end -->\n\nafter\n")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_chart_is_drawn_from_the_lines_and_equal_lines_give_equal_files(ending, lines, tmp_path):
    pytest.importorskip("matplotlib")
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"

    main([str(lines), str(first)])
    main([str(lines), str(second)])

    assert first.read_bytes() == second.read_bytes() and first.stat().st_size > 10_000
    if ending == "svg":
        assert ElementTree.parse(first).getroot().tag.endswith("svg")


def test_pages_are_filled_between_their_comments_and_filling_again_changes_nothing(lines, tmp_path):
    pytest.importorskip("matplotlib")
    pages = [tmp_path / "README.md", tmp_path / "docs" / "benchmarks.md"]
    for each in pages:
        page(each)
    (tmp_path / "docs" / "pictures").mkdir()

    main([str(lines), "--pages"], root=tmp_path)
    once = [each.read_text() for each in pages]
    main([str(lines), "--pages"], root=tmp_path)

    assert [each.read_text() for each in pages] == once
    assert all(text.startswith("before\n\n<!-- speed: begin") and text.endswith("-->\n\nafter\n") for text in once)
    assert all("old figures" not in text for text in once)
    assert "two-core" in once[0] and "not on MPS" in once[0]
    assert "| **mps-shards**" in once[1] and (tmp_path / "docs" / "pictures" / "speed.svg").exists()


def test_the_repositorys_own_pages_have_places_to_fill():
    for each in (ROOT / "README.md", ROOT / "docs" / "benchmarks.md"):
        text = each.read_text("utf-8")

        assert text.count("<!-- speed: begin") == text.count("<!-- speed: end -->") == 1


def test_a_page_without_places_is_named_and_left_alone(lines, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "README.md").write_text("nothing to fill\n")
    (tmp_path / "docs" / "pictures").mkdir(parents=True)

    with pytest.raises(ValueError, match=r"README\.md must hold one line"):
        main([str(lines), "--pages"], root=tmp_path)

    assert (tmp_path / "README.md").read_text() == "nothing to fill\n"


def test_tables_rank_by_rate_and_name_what_did_not_run(lines):
    _, results = read_run(lines)

    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in speed_tables(results).splitlines()[4:10]]

    assert [row[0] for row in rows[:3]] == [
        "bare loop: decode only",
        "mps-shards, packed with --tiles",
        "**mps-shards**",
    ]
    assert rows[1][1:4] == ["150 (disturbed)", "150 to 150", "1.50"]
    assert rows[2][1:] == ["100", "90 to 110", "1.00", "1.50", "0.05 s", "0.80 GB", "0.000, 1"]
    assert rows[-1][:2] == ["DALI on the CPU", "not installed"]


def test_a_column_without_any_figure_is_left_out(lines):
    _, results = read_run(lines)

    head = speed_tables(results).partition("**W3")[2].splitlines()[2]

    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["loader", "images/s", "range", "ratio to ours"]


def test_the_sentence_compares_with_the_fastest_variant_of_the_fastest_rival(lines):
    about, results = read_run(lines)

    assert "2.00 on W1 (webdataset), 2.00 on W3 (DALI on the CPU)" in speed_sentence(about, results)


def test_lines_of_a_run_that_was_stopped_are_refused(tmp_path):
    path = tmp_path / "stopped.jsonl"
    path.write_text('{"when": "2026-01-01"}\n{"trial": "ours"}\n')

    with pytest.raises(ValueError, match="holds no results"):
        read_run(path)
