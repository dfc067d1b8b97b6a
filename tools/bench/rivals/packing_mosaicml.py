"""Packs class folders with MosaicML's `MDSWriter`, or reads the result: ``write SOURCE OUT`` or ``read OUT JSON``."""

import hashlib
import json
import sys
import time
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Pack a folder, or read a packed folder and write the SHA-256 of each image by key."""
    streaming = import_module("streaming")
    what, source, out = sys.argv[1:]
    if what == "write":
        began = time.perf_counter()
        columns = {"key": "str", "jpeg": "bytes", "label": "int"}
        classes = sorted(folder.name for folder in Path(source).iterdir())
        with streaming.MDSWriter(out=out, columns=columns, size_limit="256mb") as writer:
            for path in sorted(Path(source).rglob("*.jpg")):
                label = classes.index(path.parent.name)
                writer.write({"key": f"{path.parent.name}/{path.stem}", "jpeg": path.read_bytes(), "label": label})
        print('"seconds":', time.perf_counter() - began)
        return
    read = streaming.LocalDataset(source)
    digests = {each["key"]: hashlib.sha256(each["jpeg"]).hexdigest() for each in read}
    Path(out).write_text(json.dumps(digests))


if __name__ == "__main__":
    main()
