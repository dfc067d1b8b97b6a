"""The destination that writes to a local folder, or to a folder that many machines mount."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.destinations.claim import check_claim, check_overwritable, find_unknown, resume_hint
from mps_shards.packing.destinations.destination import MARKER, STATE, Completion
from mps_shards.packing.destinations.folder_lock import locked
from mps_shards.packing.pack_report import PackPlan
from mps_shards.shards.manifest import MANIFEST_NAME, NOT_JSON
from mps_shards.storage.disk_sync import sync_folder, translated
from mps_shards.storage.local_disk import PART, replacing

__all__ = ["LocalDestination"]


class LocalDestination:
    """A local folder as the destination of a pack."""

    def __init__(self, out: Path):
        self._out = out
        self._state = out / STATE
        self._begun = self._state / "begun"
        self._plan = self._begun / "plan.json"
        self._records = self._state / "finished"

    def where(self, split: str = "") -> Path:
        return self._out / split

    def set_folder(self, split: str) -> Path:
        return self._out / split

    def absolute(self) -> "LocalDestination":
        return LocalDestination(self._out.absolute())

    def plan(self) -> PackPlan | None:
        with translated(self._out), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                return msgspec.json.decode(self._plan.read_bytes(), type=PackPlan)
            except NOT_JSON as error:
                raise DataError(f"{self._plan} cannot be read ({error}); pack over it with --overwrite") from error
        return None

    @contextlib.contextmanager
    def occupied(
        self, plan: PackPlan, *, shared: bool = False, overwrite: bool = False
    ) -> Iterator["LocalDestination"]:
        out = self._out
        with translated(out):
            existed = out.exists()
        with contextlib.ExitStack() as held:
            with translated(out):
                if not self._state.exists():  # otherwise checked only under the lock, as another process may be packing
                    self._check(plan, overwrite=overwrite)
                held.enter_context(locked(self._state, shared=shared, what=str(out)))
                held.callback(self._tidy, shared=shared, remove=not existed)
                self._check(plan, overwrite=overwrite)
                if overwrite:
                    self._clear()
                if not shared:
                    self._sweep()
            try:
                with translated(out):
                    self._begin(plan)
                yield self
                if shared:  # what this task reports as made is there when `commit` looks for it
                    self._sync(plan)
                    sync_folder(self._records)
            except BaseException as error:
                finished = self._finished_count()
                if finished and plan.is_resumable:
                    error.add_note(resume_hint(out, finished, error))
                elif not shared and self._is_begun():
                    self._clear()
                raise

    def completion(self, shard: str) -> Completion | None:
        with translated(self._out):
            try:
                return msgspec.json.decode((self._records / f"{shard}.json").read_bytes(), type=Completion)
            except (FileNotFoundError, *NOT_JSON):  # the shard of a damaged record is made again
                return None

    def complete(self, split: str, shard: str, completion: Completion) -> None:
        with replacing(self._records / f"{shard}.json", part=self._part(shard)) as file:
            file.write(msgspec.json.encode(completion))

    def holds(self, split: str, shard: str, done: Completion) -> bool:
        """Whether a shard has the recorded SHA-256, for which every byte is read."""
        try:
            with open(self._out / split / shard, "rb") as tar:
                return hashlib.file_digest(tar, "sha256").hexdigest() == done.sha256
        except OSError:
            return False

    def finished(self, split: str, shards: Sequence[str]) -> dict[str, Completion]:
        found = {}
        for name in shards:
            done = self.completion(name)
            path = self._out / split / name
            with translated(path):
                if done and (not done.samples or (path.is_file() and path.stat().st_size == done.size)):
                    found[name] = done
        return found

    @contextlib.contextmanager
    def writing(self, split: str, shard: str) -> Iterator[BinaryIO]:
        with replacing(self._out / split / shard, part=self._part(shard)) as file:
            yield file

    def remove(self, split: str, shard: str) -> None:
        (self._out / split / shard).unlink()

    def put(self, split: str, name: str, content: bytes) -> None:
        with self.writing(split, name) as file:
            file.write(content)

    def publish(self, split: str, manifest: bytes) -> None:
        folder = self._out / split
        sync_folder(folder)  # the names of what the manifest names, first
        self.put(split, MANIFEST_NAME, manifest)
        sync_folder(folder)  # tars with neither manifest nor marker would be taken for those of another tool
        with translated(folder):
            (folder / MARKER).unlink(missing_ok=True)
        if split:  # otherwise this is the folder that `leave` syncs
            sync_folder(folder)

    def leave(self) -> None:
        """Remove every file that is needed only while packing, also the lock file."""
        sync_folder(self._out)  # first, because without the plan all shards would be written again
        with translated(self._out):
            self._forget()
            shutil.rmtree(self._state, ignore_errors=True)
        sync_folder(self._out)

    def _begin(self, plan: PackPlan) -> None:
        """Write the plan, unless it exists, and make the folders of its sets.

        Raises:
            ConfigError: another process has just begun another plan.
        """
        self._records.mkdir(exist_ok=True)
        if not self._plan.exists():
            mine = self._part("plan")
            mine.mkdir()
            with replacing(mine / self._plan.name) as file:
                file.write(msgspec.json.encode(plan))
            sync_folder(mine)
            try:
                os.rename(mine, self._begun)  # renaming a folder fails if another process was first
            except OSError:
                if not self._plan.exists():
                    raise
                shutil.rmtree(mine)
        self._check(plan)
        sync_folder(self._state)  # before any other name: without its plan, no pack goes on with what is in the folder
        for each in plan.sets:
            (self._out / each.split).mkdir(exist_ok=True)
            (self._out / each.split / MARKER).touch()
        self._sync(plan)  # before any tar: without the marker, tars would be taken for those of another tool

    def _sync(self, plan: PackPlan) -> None:
        """Make the names in all folders durable."""
        for folder in dict.fromkeys([*(self._out / each.split for each in plan.sets), self._out]):
            sync_folder(folder)

    def _is_begun(self) -> bool:
        """Whether there is a plan. Without a plan the sets are finished, and at most completion records are left."""
        with translated(self._out):
            return self._plan.exists()

    def _finished_count(self) -> int:
        with translated(self._out):
            return sum(1 for _ in self._records.iterdir()) if self._records.is_dir() else 0

    def _part(self, name: str) -> Path:
        """Return a new path for an unfinished file, so that two processes can write the same file."""
        return self._state / f"{name}.{secrets.token_hex(4)}{PART}"

    def _sweep(self) -> None:
        """Remove unfinished files that killed processes left. Requires the exclusive lock."""
        for left in self._state.glob(f"*{PART}"):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Remove the plan and the completion records."""
        with translated(self._out):
            if self._plan.exists():  # first: the next pack removes records that have no plan
                self._plan.unlink(missing_ok=True)
                sync_folder(self._begun)
        shutil.rmtree(self._records, ignore_errors=True)
        self._sweep()

    def _tidy(self, *, shared: bool, remove: bool) -> None:
        """Remove the state if there is no plan; with `remove`, also the destination's folder if it is empty."""
        with translated(self._out):
            if not shared and not self._plan.exists():
                self._forget()
                shutil.rmtree(self._state, ignore_errors=True)
                if remove and not any(self._out.iterdir()):
                    self._out.rmdir()

    def _check(self, plan: PackPlan, *, overwrite: bool = False) -> None:
        """Refuse a folder that holds anything but an unfinished pack by this plan, or with `overwrite`, any pack."""
        if not self._out.is_dir():
            if self._out.exists():
                raise ConfigError(f"{self._out} is not a directory; remove it or name another folder")
            return
        names = self._names()
        if overwrite:
            check_overwritable(self._out, names)
        else:
            check_claim(self._out, names, self.plan(), plan)

    def _names(self) -> list[str]:
        """Return the relative paths of all files and folders, without the state; folders end with a slash."""
        found = []
        for item in self._out.iterdir():
            if item.name == STATE and item.is_dir():
                continue
            if item.is_dir():
                found += [f"{item.name}/", *(f"{item.name}/{inner.name}" for inner in item.iterdir())]
            else:
                found.append(item.name)
        return found

    def _clear(self) -> None:
        """Remove everything that packs wrote to this folder, except the lock file."""
        if find_unknown(self._names()):  # another process wrote a file meanwhile
            return
        sets = [item for item in self._out.iterdir() if item.is_dir() and item != self._state]
        for folder in (*sets, self._out):
            if (folder / MANIFEST_NAME).exists():  # the marker makes the set unfinished, even if this process is killed
                os.replace(folder / MANIFEST_NAME, folder / MARKER)
                sync_folder(folder)
            for item in folder.iterdir():
                if item.name != MARKER and not item.is_dir():
                    item.unlink()
            sync_folder(folder)  # tars that come back must find the marker
            (folder / MARKER).unlink(missing_ok=True)
            if folder != self._out:
                folder.rmdir()
        self._forget()
