"""Measure images with PNG masks per second, scaled to fit a square: this package, webdataset, and decoding alone.

Takes the options of ``images.py``.
"""

import sys

from tools.bench.images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W5",), name="bench_segment")))
