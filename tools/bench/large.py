"""How many twelve-megapixel photographs (4000x3000) a second, at the centre (W4) or cropped at random (W6), to 224x224.

Takes the options of ``bench_images.py``. `ours` decodes exactly, `ours-scaled` no larger than the crop needs.
"""

import sys

from tools.bench.images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W4", "W6"), name="bench_large")))
