"""Formatting of numbers and names for errors, tables and reports."""

__all__ = ["counted", "megabytes", "percent", "printable"]


def printable(text: str) -> str:
    """Return the text on one line, with escapes for characters that a terminal would interpret or cannot show."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``"1 shard"``, ``"1,200 shards"``, ``"2 classes"``."""
    plural = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{number:,} {noun}{plural}"


def megabytes(size: int) -> str:
    """Return a number of bytes in decimal megabytes, such as ``"25.6 MB"``, or in gigabytes from 10 GB on."""
    return f"{size / 1e9:,.1f} GB" if size >= 10**10 else f"{size / 1e6:,.1f} MB"


def percent(share: float) -> str:
    """Return a share, 0..1, in percent, such as ``"25.0%"`` or ``"0.04%"``; only a share of 0 is shown as zero."""
    if share == 0 or share >= 0.001:
        return f"{share:.1%}"
    return f"{share:.2%}" if share >= 0.0001 else "<0.01%"
