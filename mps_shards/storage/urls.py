"""URLs of folders in stores, and how to speak of them without telling what is secret in them."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Prefix", "scheme_of", "split_url", "without_secrets"]

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # two letters at least: one alone is a drive
_IN_TEXT = re.compile(r"\b[a-z][a-z0-9+.-]+://[^\s\"'<>]+", re.IGNORECASE)
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A folder in a store; its text is safe to show.

    Attributes:
        url: in full, without a slash at its end; may hold a password or a signed query.
    """

    url: str = field(repr=False)

    def inside(self, name: str) -> "Prefix":
        """The folder of this name inside this one."""
        parts = urlsplit(self.url)
        return Prefix(urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))) if name else self

    def __str__(self) -> str:
        return _public(self.url)  # whole, as it may hold spaces

    def __truediv__(self, name: str) -> str:
        """The address of a file in it, to be shown."""
        return f"{self}/{name}" if name else str(self)


def scheme_of(text: str) -> str | None:
    """``"s3"`` of ``"S3://bucket"``; None for a path."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else None


def split_url(url: str) -> tuple[Prefix, str | None]:
    """The folder that a URL names; or, where it ends like a tar, the folder around it and the tar's name."""
    parts = urlsplit(url)
    path, name = parts.path.rstrip("/"), None
    if path.lower().endswith(_TARS):
        path, _, name = path.rpartition("/")
        name = unquote(name) if scheme_of(url) in ("http", "https") else name
    query = f"?{parts.query}" if parts.query else ""
    return Prefix(f"{parts.scheme.lower()}://{parts.netloc}{path}{query}"), name


def without_secrets(text: str) -> str:
    """A URL, or a text with URLs in it, without user names, passwords and queries."""
    return _IN_TEXT.sub(lambda found: _public(found[0]), text)


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
