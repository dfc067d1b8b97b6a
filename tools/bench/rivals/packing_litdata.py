"""Packs class folders with litdata's `optimize`, or reads the result: ``write SOURCE OUT`` or ``read OUT JSON``."""

import hashlib
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def sample(path: Path) -> dict[str, Any]:
    """Return what litdata stores of a file: its unchanged bytes, and the name of its folder as the label."""
    return {"key": f"{path.parent.name}/{path.stem}", "jpeg": path.read_bytes(), "label": path.parent.name}


def main() -> None:
    """Pack a folder, or read a packed folder and write the SHA-256 of each image by key."""
    litdata = import_module("litdata")
    what, source, out = sys.argv[1:]
    if what == "write":
        began = time.perf_counter()
        files = sorted(Path(source).rglob("*.jpg"))
        litdata.optimize(sample, files, output_dir=out, chunk_bytes="256MB", verbose=False)
        print('"seconds":', time.perf_counter() - began)
        return
    read = litdata.StreamingDataset(source)
    digests = {each["key"]: hashlib.sha256(each["jpeg"]).hexdigest() for each in read}
    Path(out).write_text(json.dumps(digests))


if __name__ == "__main__":  # litdata starts processes that import this file
    main()
