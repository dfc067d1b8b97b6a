"""How many images with their PNG masks a second, scaled to fit a square: ours, webdataset, and decoding alone.

Takes the options of ``bench_images.py``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, too

from tools.bench_images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W5",), name="bench_segment")))
