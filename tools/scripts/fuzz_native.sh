#!/bin/sh
# Builds the fuzz target of the native kernel with clang, and runs it on a persistent corpus: fuzz_native.sh [OPTION…]
# Options are libFuzzer's, such as -max_total_time=600.
set -eu
cd "$(dirname "$0")/../.."
out=fuzz-out/native
mkdir -p "$out/corpus"
"${PYTHON:-.venv/bin/python}" - "$out/corpus" <<'SEEDS'
import random
import sys
from pathlib import Path

from mps_shards.native import tiled
from mps_shards.shards.tar import header, padding
from tests.support.images import encoded, picture, turbo
from tools.fuzz.of_image import seeds

rng = random.Random(0)
found = [seed for seed in seeds() if seed.startswith(b"\xff\xd8")]
for kind in ("444", "422", "420", "440", "411"):
    found += [turbo("RGB", kind, height=height, width=width) for height, width in ((37, 53), (70, 130), (1, 1))]
found += [encoded(picture("RGB", 70, 130), "JPEG", progressive=True)]
found += [encoded(picture("L", 70, 130), "JPEG", restart_marker_blocks=3)]
found += [rewritten for seed in found if (rewritten := tiled(seed)) is not None]
found += [header("a.jpg", len(seed)) + seed + padding(len(seed)) + header("a.cls", 1) + b"1" + padding(1) for seed in found]
for number, seed in enumerate(found):
    Path(sys.argv[1], f"seed-{number:03d}").write_bytes(rng.randbytes(16) + seed)
SEEDS
clang -std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -ffp-contract=off -Wall -Wextra -Wno-psabi \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Imps_shards/native \
    tools/fuzz/native/kernel_fuzzer.c mps_shards/native/entropy.c mps_shards/native/guard.c mps_shards/native/jpeg.c \
    mps_shards/native/kernel.c mps_shards/native/resize.c mps_shards/native/sample.c mps_shards/native/tiles.c \
    -ljpeg -o "$out/kernel_fuzzer"
exec "$out/kernel_fuzzer" -max_len=20000 -timeout=25 -rss_limit_mb=3000 -artifact_prefix="$out/" "$@" "$out/corpus"
