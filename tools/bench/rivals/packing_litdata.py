"""Packs class folders with litdata's `optimize`, or reads that back: ``write SOURCE OUT`` or ``read OUT JSON``."""

import hashlib
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def sample(path: Path) -> dict[str, Any]:
    """What is stored of a file: its very bytes, and the name of its class, which is that of its folder."""
    return {"key": f"{path.parent.name}/{path.stem}", "jpeg": path.read_bytes(), "label": path.parent.name}


def main() -> None:
    """Write, or read and leave the SHA-256 of each image by key."""
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


if __name__ == "__main__":  # it starts processes that import this file
    main()
