"""What a file is that should be an image or an archive, recognised by its first bytes."""

from typing import NamedTuple

__all__ = ["ForeignContent", "named_content", "named_file"]

_FAILED = "its download failed; download it again or remove it"
_KINDS = (
    (b"%pdf", "a PDF document", "save its pages as images, or remove it"),
    (b"pk\3\4", "a zip archive", "unpack it, or remove it"),
    (b"\x1f\x8b", "a gzip file", "unpack it, or remove it"),
)
_VIDEOS = (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"m4v ", b"3gp4", b"3gp5")


class ForeignContent(NamedTuple):
    """A kind of file, with an article, and what to do about it."""

    what: str
    remedy: str


def named_content(head: bytes) -> ForeignContent | None:
    """The kind of a file that is often found in the place of another one; None if the kind is not known."""
    text = head[:1024].lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return ForeignContent("a Git LFS pointer", "run 'git lfs pull', then pack again")
    if text.startswith((b"<!doctype html", b"<html")):
        return ForeignContent("an HTML page", _FAILED)
    if text.startswith(b"<?xml") or b"<error>" in text:
        return ForeignContent("XML text", _FAILED)
    return None


def named_file(head: bytes) -> ForeignContent | None:
    """Return what stands in the place of an image: what `named_content` knows, an archive, a document or a video."""
    if head[4:8] == b"ftyp" and head[8:12].lower() in _VIDEOS:
        return ForeignContent("a video", "save its frames as images, or remove it")
    kinds = (ForeignContent(what, remedy) for start, what, remedy in _KINDS if head[:4].lower().startswith(start))
    return named_content(head) or next(kinds, None)
