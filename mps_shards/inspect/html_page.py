"""A survey as one self-contained HTML page without scripts, fonts or requests."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from mps_shards.inspect.charts import chart_svgs, has_matplotlib, size_sentence
from mps_shards.inspect.figures import by_class, figures, normalize_line
from mps_shards.wording import counted, megabytes, percent

if TYPE_CHECKING:
    from mps_shards.inspect.contact_sheet import Tile
    from mps_shards.inspect.survey import Survey
    from mps_shards.shardset.verification import VerifyReport

__all__ = ["SetPage", "page_of"]

_MOST = 40  # classes in a histogram, the most frequent and the rarest
_FAULTS = 50  # faults that are listed

_STYLE = """
:root { color-scheme: light dark; --paper:#fafaf7; --card:#fff; --ink:#1c1e22; --faint:#6b6e76; --line:#e4e3dd;
  --fill:#3b6fb6; --good:#1f7a3d; --bad:#b3261e; --red:#d55e00; --green:#009e73; --blue:#0072b2 }
@media (prefers-color-scheme: dark) { :root { --paper:#17181b; --card:#1f2125; --ink:#e9e9e4; --faint:#9a9da5;
  --line:#33363c; --fill:#7ba6e0; --good:#6cc48a; --bad:#f08a80; --red:#f0843c; --green:#3cc79b; --blue:#56b4e9 } }
* { box-sizing: border-box }
body { margin:0; background:var(--paper); color:var(--ink) }
body { font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:1120px; margin:0 auto; padding:48px 32px 64px }
h1 { font-size:32px; line-height:1.2; margin:0 0 4px; overflow-wrap:anywhere }
h2 { font-size:20px; margin:48px 0 16px }
p { margin:0 0 12px } .faint, figcaption, footer { color:var(--faint) }
code { font:14px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; overflow-wrap:anywhere }
pre { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:14px 16px }
pre { margin:0 0 16px; white-space:pre-wrap }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:14px; margin:28px 0 }
.card, .chart { background:var(--card); border:1px solid var(--line); border-radius:12px; padding:14px 16px }
.card b { display:block; font-size:21px; line-height:1.4; font-weight:600; white-space:nowrap }
.card b { font-variant-numeric:tabular-nums }
.card span { color:var(--faint); font-size:14px }
.good, .bad { border-left:4px solid; padding:10px 16px; background:var(--card); border-radius:0 10px 10px 0 }
.good { border-color:var(--good) } .bad { border-color:var(--bad) }
table { border-collapse:collapse; width:100%; font-size:14px; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:500 } td, th { padding:4px 12px 4px 0; vertical-align:top }
thead th { color:var(--faint); border-bottom:1px solid var(--line) }
.faults td:first-child, .faults td:nth-child(2) { white-space:nowrap }
.bars td { text-align:right; white-space:nowrap; width:1% } .bars th { width:24%; overflow-wrap:anywhere }
.bars .gap { color:var(--faint); padding:10px 0; width:auto; text-align:left }
.bars .bar { width:auto; vertical-align:middle } .bars i { display:block; height:12px; border-radius:3px }
.bars i { background:var(--fill); min-width:1px }
@media (max-width:600px) { main { padding:32px 20px 48px } .bars { font-size:13px } .bars th { width:34% }
  .bars td, .bars th { padding-right:6px } }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(300px,1fr)); gap:14px }
.chart h3 { font-size:14px; font-weight:500; margin:0 0 10px }
.four { grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr)) }
svg { display:block; width:100%; max-width:440px; height:auto; margin:0 auto }
nav { margin:0 0 8px } nav a { margin-right:18px; color:var(--fill) }
.scroll { overflow-x:auto } section + section, .scroll + section, p + section { margin-top:72px }
.shots { display:grid; grid-template-columns:repeat(auto-fill,minmax(var(--wide),1fr)); gap:18px }
@media (max-width:600px) {
  .shots { gap:12px; grid-template-columns:repeat(auto-fill,minmax(calc(var(--wide)*.7),1fr)) } }
figure { margin:0; min-width:0 } .pair { display:flex; gap:6px; align-items:flex-end }
.pair img { flex:1 1 0; min-width:0; width:100%; border-radius:8px; aspect-ratio:var(--shape); object-fit:cover }
figcaption { font-size:13px; margin-top:6px; overflow-wrap:anywhere }
figcaption i, .key i { display:inline-block; width:10px; height:10px; border-radius:5px; margin-right:7px }
.key i { box-shadow:inset 0 0 0 1px var(--line) }
.key { display:flex; flex-wrap:wrap; gap:6px 20px; margin:0 0 16px; font-size:14px }
.print { margin-top:24px }
footer { margin-top:56px; font-size:13px }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPage:
    """Content of a report on one shard set.

    Attributes:
        name: name of the set.
        found: survey of the set.
        tiles: samples to show.
        legend: colours of label-map classes by name.
        verified: result of verifying the set; None if the set was not verified.
    """

    name: str
    found: "Survey"
    tiles: "Sequence[Tile]" = ()
    legend: Mapping[str, Any] = field(default_factory=dict)
    verified: "VerifyReport | None" = None


def page_of(title: str, sets: Sequence[SetPage], *, version: str) -> str:
    """Return a report on one shard set, or on several with a comparison, as HTML."""
    parts = [] if len(sets) == 1 else [_comparison(title, sets)]
    for number, one in enumerate(sets):
        parts.append(f'<section id="set-{number}">')
        parts += [_head(one.name, one.found), _verdict(one.found, one.verified), _shots(one.tiles, one.legend)]
        if one.found.tally.samples:
            parts += [_classes(one.found, one.legend), _images(one.found), _channels(one.found)]
        parts.append(f'<p class="faint print">Fingerprint <code>{one.found.manifest.fingerprint}</code></p></section>')
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><main>\n{body}\n"
        f"<footer>Made by mps-shards {escape(version)}.</footer>\n</main></body></html>\n"
    )


def _comparison(title: str, sets: Sequence[SetPage]) -> str:
    short = {one.name: one.name.removeprefix(f"{title} / ") for one in sets}
    links = "".join(f'<a href="#set-{number}">{escape(short[one.name])}</a>' for number, one in enumerate(sets))
    facts = [
        (
            short[one.name],
            f"{one.found.manifest.samples:,}",
            f"{len(one.found.manifest.classes):,}",
            megabytes(one.found.manifest.bytes).replace(" ", "\u00a0"),  # a number and its unit stay on one line
            _rounded(one.found.tally.mean()),
            _rounded(one.found.tally.std()),
        )
        for one in sets
    ]
    head = ("set", "samples", "classes", "size", "mean (RGB)", "std (RGB)")
    return (
        f'<h1>{escape(title)}</h1><p class="faint">{counted(len(sets), "shard set")}</p><nav>{links}</nav>'
        f"<h2>Comparison of the sets</h2>{_table(head, facts)}{_class_shares(sets, short)}"
    )


def _class_shares(sets: Sequence[SetPage], short: Mapping[str, str]) -> str:
    """Return the share of each class in each set, with a warning about classes that a set lacks."""
    counts = {one.name: by_class(one.found) for one in sets}
    names = list(dict.fromkeys(name for classes in counts.values() for name in classes))
    if not names:
        return ""
    totals = {name: sum(classes.values()) or 1 for name, classes in counts.items()}
    rows = [
        (name, *(percent(classes.get(name, 0) / totals[one]) for one, classes in counts.items()))
        for name in names[:_MOST]
    ]
    more = f'<p class="faint">{len(names) - _MOST:,} more classes are left out.</p>' if len(names) > _MOST else ""
    lacking = [
        f"{escape(one)} has no sample of {escape(', '.join(missing[:10]))}{' …' if len(missing) > 10 else ''}."
        for one, classes in counts.items()
        if (missing := [name for name in names if not classes.get(name)])
    ]
    warning = f'<p class="bad">{" ".join(lacking)}</p>' if lacking else ""
    return f"<h2>Share of each class</h2>{warning}{_table(('class', *(short[name] for name in counts)), rows)}{more}"


def _rounded(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return a table, without its empty columns."""
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    heading = "".join(f"<th>{escape(head[place])}</th>" for place in kept)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(row[place])}</td>' for place in kept)}</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{heading}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _head(name: str, found: "Survey") -> str:
    manifest, sizes = found.manifest, figures(found)
    shards = len(manifest.shards)
    cards = [
        (f"{manifest.samples:,}", "samples"),
        (f"{len(manifest.classes):,}", "classes"),
        (f"{shards:,}", "shard" if shards == 1 else "shards"),
        (megabytes(manifest.bytes), "size of the shards"),
    ]
    if found.tally.samples:
        cards.append((f"{sizes['width']['median']:,.0f} x {sizes['height']['median']:,.0f}", "median width x height"))
        cards.append((f"{sizes['bytes']['median'] / 1e3:,.1f} KB", "median file size"))
    packed = manifest.packed
    order = "in the order of their paths" if packed.seed is None else f"shuffled with seed {packed.seed}"
    shown = "".join(f'<div class="card"><b>{value}</b><span>{what}</span></div>' for value, what in cards)
    how = f"packed from {escape(packed.layout)}, {order}, by mps-shards {escape(packed.version)}"
    return (
        f'<h1>{escape(name)}</h1><p class="faint">A shard set for {manifest.task}, {how}</p>'
        f'<div class="cards">{shown}</div>'
    )


def _verdict(found: "Survey", verified: "VerifyReport | None") -> str:
    drawn = "" if found.seed is None else f", drawn by seed {found.seed}"
    decoded = f"{counted(found.tally.samples, 'image')} decoded{drawn}"
    faults, read = [], "Its bytes were not verified; "
    if verified is not None:
        faults = [(fault.where, fault.kind, fault.key or "", fault.detail) for fault in verified.problems]
        read = (
            f"{counted(verified.samples, 'sample')} in {counted(verified.shards, 'shard')}, "
            f"{megabytes(verified.bytes)}, compared with manifest and index; "
        )
    faults += [("", "does not decode", "", line) for line in found.broken]
    if not faults:
        return f'<h2>Is it sound?</h2><p class="good"><b>All is well.</b> {read}{decoded}.</p>'
    more = f'<p class="faint">and {len(faults) - _FAULTS:,} more</p>' if len(faults) > _FAULTS else ""
    return (
        f'<h2>Is it sound?</h2><p class="bad"><b>{counted(len(faults), "problem")}.</b> {read}{decoded}.</p>'
        f"{_table(('file', 'problem', 'sample', 'detail'), faults[:_FAULTS], 'faults')}{more}"
    )


def _shots(tiles: "Sequence[Tile]", legend: Mapping[str, Any]) -> str:
    from mps_shards.inspect.contact_sheet import jpeg_bytes

    if not tiles:
        return ""
    each = len(tiles[0].pictures)
    shots = []
    for tile in tiles:
        pictures = "".join(
            f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg_bytes(picture, 240)).decode()}">'
            for picture in tile.pictures
            if picture is not None
        )
        dot = "" if tile.colour is None else f'<i style="background:{_css(tile.colour)}"></i>'
        caption = escape(tile.caption) + ("" if pictures else " (not readable)")
        shots.append(f'<figure><div class="pair">{pictures}</div><figcaption>{dot}{caption}</figcaption></figure>')
    key = "".join(
        f'<span><i style="background:{_css(colour)}"></i>{escape(name)}</span>' for name, colour in legend.items()
    )
    style = f"--wide:{150 if each == 1 else 300}px;--shape:{'1' if each == 1 else '4/3'}"
    return (
        f"<h2>Samples</h2>{f'<p class=key>{key}</p>' if key else ''}"
        f'<div class="shots" style="{style}">{"".join(shots)}</div>'
    )


def _classes(found: "Survey", legend: Mapping[str, Any]) -> str:
    masks = found.tally.mask_pixels
    counts = {found.class_name(number): count for number, count in masks.most_common()} if masks else {}
    counts = counts or dict(sorted(figures(found)["classes"].items(), key=lambda item: -item[1]))
    if not counts:
        return ""
    names = list(counts)
    shown = names if len(names) <= _MOST else names[: _MOST // 2] + names[-_MOST // 2 :]
    colours = {name: _css(colour) for name, colour in legend.items()}
    heading = "Pixels per class" if masks else "Images per class"
    bars = _bars({name: counts[name] for name in shown}, colours, total=sum(counts.values()), names=len(names))
    return f"<h2>{heading}</h2>{bars}"


def _bars(counts: Mapping[str, int], colours: Mapping[str, str], *, total: int, names: int) -> str:
    """Return a table with a row and a bar per name; HTML, so that long names wrap.

    Args:
        total: number that shares refer to; it includes names that are not shown.
        names: number of names; a row in the middle says how many are not shown.
    """
    most, total = max(counts.values(), default=0) or 1, total or 1
    rows = []
    for place, (name, count) in enumerate(counts.items()):
        if names > len(counts) and place == len(counts) // 2:
            left_out = counted(names - len(counts), "class")
            rows.append(f'<tr><td class="gap" colspan="4">{left_out} in between are left out.</td></tr>')
        style = f"width:{100 * count / most:.2f}%" + (f";background:{colours[name]}" if name in colours else "")
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="bar"><i style="{style}"></i></td>'
            f"<td>{count:,}</td><td>{escape(percent(count / total))}</td></tr>"
        )
    return f'<table class="bars">{"".join(rows)}</table>'


def _images(found: "Survey") -> str:
    tally = found.tally
    kinds = ", ".join(f"{name} {count:,}" for name, count in (*tally.formats.most_common(), *tally.modes.most_common()))
    turned = sum(count for value, count in tally.orientations.items() if value != 1)
    upright = (
        "All images are upright"
        if not turned
        else f"{counted(turned, 'image')} with an EXIF orientation, which is not applied"
    )
    same = size_sentence(found)
    if has_matplotlib():
        svgs = chart_svgs(found)
        kind = "charts four" if len(svgs) == 4 else "charts"  # two rows of two, rather than three and one
        cards = "".join(f'<div class="chart">{svg}</div>' for svg in svgs)
        drawn = f'<div class="{kind}">{cards}</div>'
    else:
        drawn = "<p class=\"faint\">Charts need matplotlib: pip install 'mps-shards[plot]'.</p>"
    return f"<h2>Images</h2><p>{kinds}. {upright}. {same or ''}</p>{drawn}"


def _channels(found: "Survey") -> str:
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{mean:.6f}</td><td>{std:.6f}</td></tr>'
        for name, mean, std in zip(("red", "green", "blue"), found.tally.mean(), found.tally.std(), strict=True)
    )
    pasted = (
        f"<pre><code>ShardDataset(…, {escape(normalize_line(found))})</code></pre>" if all(found.tally.std()) else ""
    )
    return (
        f"<h2>Mean and standard deviation</h2>{pasted}"
        "<table><thead><tr><th>channel</th><th>mean</th><th>std</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
