"""Measure twelve-megapixel photographs (4000x3000) per second, cropped to 224x224 at the centre (W4) or at random (W6).

Takes the options of ``images.py``. `ours` decodes exactly; `ours-scaled` decodes no more pixels than the crop needs.
"""

import sys

from tools.bench.images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W4", "W6"), name="bench_large")))
