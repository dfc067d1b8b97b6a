"""Files here and in stores, alike to who reads them from end to end."""

import io
from pathlib import Path

from mps_shards.storage.local_disk import RangeReader, file_size, open_stream
from mps_shards.storage.remote_folder import RemoteFile

__all__ = ["AnyReader", "opened", "size_of"]


def size_of(file: Path | RemoteFile) -> int:
    """Bytes of a file. Raises StorageError where there is none."""
    return file_size(file) if isinstance(file, Path) else file.folder.identity(file.name).size


def opened(file: Path | RemoteFile) -> io.BufferedReader:
    """The file, open for reading from its start; the caller closes it."""
    return open_stream(file) if isinstance(file, Path) else file.folder.open_stream(file.name)


class AnyReader(RangeReader):
    """Reads ranges of files wherever they are."""

    def read_of(self, file: Path | RemoteFile, offset: int, size: int) -> bytes:
        """See `RangeReader.read`; of a store by one request."""
        if isinstance(file, Path):
            return self.read(str(file), offset, size)
        return bytes(file.folder.read(file.name, offset, offset + size))
