"""The destination that writes to a prefix in an object store, from one machine or from many."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from mps_shards.errors import ConfigError, DataError, ShardsError
from mps_shards.packing.destinations.claim import check_claim, check_overwritable, find_unknown, resume_hint
from mps_shards.packing.destinations.destination import MARKER, STATE, Completion
from mps_shards.packing.pack_report import PackPlan
from mps_shards.shards.manifest import MANIFEST_NAME, NOT_JSON
from mps_shards.storage.folder import Folder, Identity, WritableFolder
from mps_shards.storage.local_disk import scratch
from mps_shards.storage.ordered_map import ordered_map

__all__ = ["StoreDestination"]

_T = TypeVar("_T")

_PLAN = f"{STATE}/plan.json"
_MAX_STATE = 1 << 30  # bytes; a completion record has 16 bytes for each sample of its shard
_AT_A_TIME = 16  # small requests in flight


class StoreDestination:
    """A destination at a prefix of an object store.

    Args:
        work_dir: local folder in which each worker makes its shard; by default the system's temporary folder.
        fingerprint: fingerprint of the plan that the destination is occupied for.
    """

    def __init__(self, folder: WritableFolder, *, work_dir: Path | None = None, fingerprint: str = ""):
        self._folder = folder
        self._work_dir = work_dir
        self._fingerprint = fingerprint
        self._records = f"{STATE}/{fingerprint[:16]}"  # so that records of another plan are not used

    def where(self, split: str = "") -> str:
        return str(self._folder / split)

    def set_folder(self, split: str) -> Folder:
        return self._folder.folder(split) if split else self._folder

    def absolute(self) -> "StoreDestination":
        return self

    def plan(self) -> PackPlan | None:
        content = self._folder.read_now(_PLAN, max_bytes=_MAX_STATE)
        try:
            return None if content is None else msgspec.json.decode(content, type=PackPlan)
        except NOT_JSON as error:
            raise DataError(f"{self.where(_PLAN)} cannot be read ({error}); pack over it with --overwrite") from error

    @contextlib.contextmanager
    def occupied(
        self, plan: PackPlan, *, shared: bool = False, overwrite: bool = False
    ) -> Iterator["StoreDestination"]:
        place = StoreDestination(self._folder, work_dir=self._work_dir, fingerprint=plan.fingerprint)
        with scratch(self._work_dir):  # fails early if the folder does not exist
            pass
        place._check(plan, overwrite=overwrite)
        if overwrite:
            place._clear()
        try:
            place._begin(plan)
            yield place
        except BaseException as error:
            with contextlib.suppress(ShardsError):  # the store itself may have failed
                if plan.is_resumable and (finished := len(self._folder.below(place._records))):
                    error.add_note(resume_hint(self.where(), finished, error))
                elif not shared and place._is_ours():
                    place._clear()
            raise

    def completion(self, shard: str) -> Completion | None:
        content = self._folder.read_now(self._record(shard), max_bytes=_MAX_STATE)
        try:
            return None if content is None else msgspec.json.decode(content, type=Completion)
        except NOT_JSON:  # the shard of a damaged record is made again
            return None

    def complete(self, split: str, shard: str, completion: Completion) -> None:
        if completion.samples:
            tag = self._folder.identity(_path(split, shard)).tag
            completion = msgspec.structs.replace(completion, tag=tag)
        self._folder.write(self._record(shard), msgspec.json.encode(completion))

    def holds(self, split: str, shard: str, done: Completion) -> bool:
        """Compare the size and the etag of a shard, because reading the shard would cost as much as making it again."""
        return self._folder.identity_now(_path(split, shard)) == Identity(done.size, done.tag)

    def finished(self, split: str, shards: Sequence[str]) -> dict[str, Completion]:
        stored = self._folder.below(split)
        found = {}
        for name, done in zip(shards, _side_by_side(self.completion, shards), strict=True):
            if not done:
                continue
            listed = stored.get(_path(split, name)) == Identity(done.size, done.tag)
            if (
                not done.samples or listed or self.holds(split, name, done)
            ):  # some stores list other etags than they return for a file
                found[name] = done
        return found

    @contextlib.contextmanager
    def writing(self, split: str, shard: str) -> Iterator[BinaryIO]:
        with self._folder.writing(_path(split, shard), scratch_folder=self._work_dir) as file:
            yield file
            self._check_ours()

    def remove(self, split: str, shard: str) -> None:
        self._folder.delete(_path(split, shard))

    def put(self, split: str, name: str, content: bytes) -> None:
        with self.writing(split, name) as file:
            file.write(content)

    def publish(self, split: str, manifest: bytes) -> None:
        self.put(split, MANIFEST_NAME, manifest)
        self._folder.delete(_path(split, MARKER))

    def leave(self) -> None:
        self._folder.delete(_PLAN)  # first: records without a plan are ignored
        self._delete(self._folder.below(STATE))

    def _record(self, shard: str) -> str:
        return f"{self._records}/{shard}.json"

    def _begin(self, plan: PackPlan) -> None:
        """Write the plan, unless it exists, and mark the folders of its sets as unfinished."""
        created = self._folder.create(_PLAN, msgspec.json.encode(plan))
        try:
            check_claim(self.where(), self._names(), None if created else self.plan(), plan)
        except ConfigError:
            if created:  # another pack began and finished since the first check
                self._folder.delete(_PLAN)
            raise
        for each in plan.sets:
            self._folder.write(_path(each.split, MARKER), b"")

    def _check(self, plan: PackPlan, *, overwrite: bool = False) -> None:
        names = self._names()
        if overwrite:
            check_overwritable(self.where(), names)
        else:
            check_claim(self.where(), names, self.plan(), plan)

    def _is_ours(self) -> bool:
        held = self.plan()
        return held is not None and held.fingerprint == self._fingerprint

    def _check_ours(self) -> None:
        if not self._is_ours():
            raise ConfigError(
                f"{self.where()} was finished or overwritten by another pack meanwhile; nothing was added"
            )

    def _names(self) -> list[str]:
        return [name for name in self._folder.below() if not name.startswith(f"{STATE}/")]

    def _clear(self) -> None:
        """Remove everything that packs wrote to this folder."""
        names = self._names()
        if find_unknown(names):  # another process wrote a file meanwhile
            return
        manifests = [name for name in names if name.rpartition("/")[2] == MANIFEST_NAME]
        for name in manifests:  # the markers make the sets unfinished, even if this process is killed
            self._folder.write(name.removesuffix(MANIFEST_NAME) + MARKER, b"")
            self._folder.delete(name)
        markers = [name.removesuffix(MANIFEST_NAME) + MARKER for name in manifests]
        markers += [name for name in names if name.rpartition("/")[2] == MARKER]
        self._delete(set(names) - {*manifests, *markers})
        self._delete(markers)
        self.leave()

    def _delete(self, names: Iterable[str]) -> None:
        _side_by_side(self._folder.delete, names)


def _path(split: str, name: str) -> str:
    return f"{split}/{name}" if split else name


def _side_by_side(ask: Callable[[str], _T], names: Iterable[str]) -> list[_T]:
    return list(ordered_map(ask, names, workers=_AT_A_TIME, name="mps-shards-ask"))
