"""How many images with their PNG masks a second, scaled to fit a square: ours, webdataset, and decoding alone.

Takes the options of ``bench_images.py``.
"""

import sys

from tools.bench.images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W5",), name="bench_segment")))
