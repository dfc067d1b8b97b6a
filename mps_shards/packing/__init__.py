"""Packing of images into shard sets: a source is listed, its shards are planned and written, then index and manifest.

Only this package makes shard sets. It never imports torch, so packing starts at once.
"""

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from mps_shards.packing.pack_options import PackOptions

if TYPE_CHECKING:
    from mps_shards.packing.pack_report import PackReport
    from mps_shards.packing.shard_writer import Progress
    from mps_shards.packing.understanding import Understanding
    from mps_shards.storage.folder import WritableFolder

__all__ = ["commit", "pack"]


def pack(
    source: Any,
    out: "str | PathLike[str] | WritableFolder | None" = None,
    *,
    dry_run: bool = False,
    yes: bool = False,
    progress: bool | None = None,
    on_understanding: "Callable[[Understanding], None] | None" = None,
    on_progress: "Progress | None" = None,
    **options: Any,
) -> "PackReport":
    """Pack images into a shard set, or into one set for each split. The source is never changed.

    Equal sources and options give equal bytes, with every executor and also after an interruption. The manifest is
    written last, so a folder without a manifest is not finished. If packing is interrupted or fails, finished shards
    are kept, and the same call checks them and continues. If no shard is finished yet, `out` is left as it was.

    Args:
        source: class folders (``cat/x.jpg``), split and class folders (``train/cat/x.jpg``), a flat folder; a list of
            paths and labels (CSV, TSV, JSON, text), or a folder with Hugging Face metadata; image and mask pairs,
            Pascal VOC, Cityscapes or COCO instances. A zip or tar archive of any of these. Parquet files with images, a
            folder of ``Dataset.save_to_disk``, or ``hf://datasets/...``. Or a Python object: a sequence or iterable of
            pairs (image, target) or of dicts, such as a torchvision or Hugging Face data set; arrays ``(X, y)``; a dict
            of such objects by split. Images may be PIL images, uint8 arrays, encoded bytes or paths.
        out: an absent or empty folder, or one with an unfinished pack of the same images and options; by default
            `source`, without a file's extension, with ``-shards`` appended. Also the URL of such a folder in an object
            store (s3://, gs://, az://, or a scheme that fsspec can write to), or a folder that was opened by
            `mps_shards.storage.location.open_folder` with other time-outs and retries.
        dry_run: write nothing, and report what would be packed; ``report.understanding.doubts`` lists open questions.
        yes: accept the first interpretation of an ambiguous source; otherwise such a source is refused.
        progress: show on stderr how the source was understood, and a progress bar; by default on a terminal, unless
            `on_understanding` or `on_progress` is given.
        on_understanding: called with an `Understanding` of the source, before anything is written.
        on_progress: called from worker threads with the numbers of samples and bytes since its last call.

    Raises:
        ConfigError: an option cannot work, the source can be read in two ways, no images were found, or `out` holds
            something else.
        DataError: a file is empty, is not an image, changed while it was packed, or shares a key with another.
        StorageError: a file cannot be read or written.
    """
    from mps_shards.packing.progress_display import ProgressDisplay
    from mps_shards.packing.run import run_pack
    from mps_shards.packing.sources.source_choice import open_source

    bundles = PackOptions.of(**options)
    if progress is None:
        progress = on_understanding is None and on_progress is None and sys.stderr.isatty()
    with (
        contextlib.closing(open_source(source, root=bundles.read.root)) as opened,
        ProgressDisplay(quiet=not progress, shows_bar=not dry_run) as display,
    ):
        run: Callable[..., PackReport] = run_pack
        if bundles.work.append:
            from mps_shards.packing.appending import append_pack  # imported late because few packs append

            run = append_pack
        return run(
            opened,
            out,
            bundles,
            dry_run=dry_run,
            yes=yes,
            on_understanding=on_understanding or display.understood,
            on_progress=on_progress or display.advance,
        )


def commit(out: "str | PathLike[str] | WritableFolder") -> "PackReport":
    """Turn the shards that the tasks of an array job (`pack` with ``executor="array"``) made in `out` into shard sets.

    A commit that failed can be repeated: if the sets are finished already, the report says so (`already_packed`) and
    has no counts by class.

    Raises:
        ConfigError: a task is still running, or `out` holds neither an unfinished pack nor finished sets.
        StorageError: shards are missing; the message names them.
    """
    from mps_shards.packing.run import commit_pack

    return commit_pack(out)


def _describe_options() -> None:
    """Add the declared options to the signature and the docstring of `pack`."""
    signature = inspect.signature(pack)
    fixed = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    lines = []
    for _, option, about in PackOptions.declared():
        fixed.append(
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
            )
        )
        text = f"{option.name}: {about.help}"
        lines.append(textwrap.fill(text, 110, initial_indent=" " * 8, subsequent_indent=" " * 12))
    pack.__signature__ = signature.replace(parameters=fixed)  # type: ignore[attr-defined]  # inspect reads it
    head, raises, tail = (pack.__doc__ or "").partition("\n    Raises:")
    pack.__doc__ = head + "\n".join(lines) + "\n" + raises + tail


_describe_options()
