"""Small inline SVG charts for an HTML page, in colours that the page's style sets."""

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars", "columns", "curves", "dots"]

_WIDE, _TALL, _FOOT = 480, 220, 30


def bars(counts: Mapping[str, int], *, unit: str = "", colours: Mapping[str, str] | None = None) -> str:
    """Return a table with a row and a bar per name; HTML rather than SVG, so that long names wrap."""
    most, total = max(counts.values(), default=0) or 1, sum(counts.values()) or 1
    rows = []
    for name, count in counts.items():
        style = f"width:{100 * count / most:.2f}%"
        if colours and name in colours:
            style += f";background:{colours[name]}"
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="bar"><i style="{style}"></i></td>'
            f"<td>{count:,}{escape(unit)}</td><td>{count / total:.1%}</td></tr>"
        )
    return f'<table class="bars">{"".join(rows)}</table>'


def columns(values: Sequence[float], *, bins: int = 40, unit: str, name: str) -> str:
    """Return a histogram of values as SVG."""
    low, high = min(values), max(values)
    step = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / step))] += 1
    most = max(counts)
    wide = _WIDE / bins
    drawn = "".join(
        f'<rect x="{place * wide + 0.5:.1f}" y="{_TALL - count / most * (_TALL - 8):.1f}" width="{wide - 1:.1f}" '
        f'height="{count / most * (_TALL - 8):.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    return _framed(name, f'<g class="fill">{drawn}</g>', f"{low:,.1f} {unit}", f"{high:,.1f} {unit}")


def curves(lines: Mapping[str, Sequence[float]], *, left: str, right: str, name: str) -> str:
    """Return curves over the same horizontal axis as SVG; the keys are classes of the page's style."""
    most = max((max(line) for line in lines.values()), default=0) or 1.0
    drawn = "".join(
        f'<polyline class="{escape(kind)}" points="'
        + " ".join(
            f"{place / (len(line) - 1) * _WIDE:.1f},{_TALL - value / most * (_TALL - 8):.1f}"
            for place, value in enumerate(line)
        )
        + '"/>'
        for kind, line in lines.items()
    )
    return _framed(name, drawn, left, right)


def dots(points: Mapping[tuple[int, int], int], *, name: str) -> str:
    """Return a scatter plot of widths and heights as SVG; a larger dot means more images."""
    side = max(max(point) for point in points)
    most = max(points.values())
    drawn = "".join(
        f'<circle cx="{wide / side * (_WIDE - 24) + 8:.1f}" cy="{_TALL - tall / side * (_TALL - 16):.1f}" '
        f'r="{2.5 + 6 * (count / most) ** 0.5:.1f}"/>'
        for (wide, tall), count in points.items()
    )
    return _framed(name, f'<g class="dots">{drawn}</g>', "0", f"{side:,} pixels wide, and tall")


def _framed(name: str, drawn: str, left: str, right: str) -> str:
    base = _TALL + 22
    return (
        f'<svg viewBox="0 0 {_WIDE} {_TALL + _FOOT}" role="img" aria-label="{escape(name)}">{drawn}'
        f'<line x1="0" y1="{_TALL}" x2="{_WIDE}" y2="{_TALL}"/><text x="0" y="{base}">{escape(left)}</text>'
        f'<text x="{_WIDE}" y="{base}" text-anchor="end">{escape(right)}</text></svg>'
    )
