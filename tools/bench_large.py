"""How many twelve-megapixel photographs (4000x3000) a second, cut to 224x224: ours, rivals, and decoding alone.

Takes the options of ``bench_images.py``. `ours` decodes exactly, `ours-scaled` no larger than the crop needs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, too

from tools.bench_images import main

if __name__ == "__main__":
    sys.exit(any(result.failure for result in main(workloads=("W4",), name="bench_large")))
