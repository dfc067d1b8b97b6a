"""How many twelve-megapixel photographs (4000x3000) a second, cut to 224x224: ours, rivals, and decoding alone.

Takes the options of ``bench_images.py``. `ours` decodes exactly, `ours-scaled` no larger than the crop needs.
"""

import sys

from tools.bench.images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W4",), name="bench_large")))
