"""URLs of folders in stores, and their display without secrets."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Prefix", "names_tar", "scheme_of", "split_url", "without_secrets"]

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # two letters or more: one letter is a drive
_IN_TEXT = re.compile(r"\b[a-z][a-z0-9+.-]+://[^\s\"'<>]+", re.IGNORECASE)
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A folder in a store. ``str(prefix)`` contains no secrets.

    Attributes:
        url: full URL without a trailing slash; it may contain a password or a signed query.
    """

    url: str = field(repr=False)

    def inside(self, name: str) -> "Prefix":
        """Return the subfolder of this name."""
        parts = urlsplit(self.url)
        return Prefix(urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))) if name else self

    def __str__(self) -> str:
        return _public(self.url)  # not split into words, as the URL may contain spaces

    def __truediv__(self, name: str) -> str:
        """Return the address of a file in the folder, for messages."""
        return f"{self}/{name}" if name else str(self)


def scheme_of(text: str) -> str | None:
    """Return the scheme in lower case: ``"s3"`` for ``"S3://bucket"``; None for a path."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else None


def names_tar(path: str) -> bool:
    """Whether a path has the extension of a tar, compressed or not."""
    return path.lower().endswith(_TARS)


def split_url(url: str) -> tuple[Prefix, str | None]:
    """Return the folder of a URL, and the name of the tar if the URL names a tar."""
    parts = urlsplit(url)
    path, name = parts.path.rstrip("/"), None
    if names_tar(path):
        path, _, name = path.rpartition("/")
        name = unquote(name) if scheme_of(url) in ("http", "https") else name
    query = f"?{parts.query}" if parts.query else ""
    return Prefix(f"{parts.scheme.lower()}://{parts.netloc}{path}{query}"), name


def without_secrets(text: str) -> str:
    """Return a URL, or a text that contains URLs, without user names, passwords and queries."""
    return _IN_TEXT.sub(lambda found: _public(found[0]), text)


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
