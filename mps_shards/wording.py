"""Formatting of numbers and names for errors, tables and reports."""

__all__ = ["counted", "megabytes", "printable"]


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
