"""Arrays in .npy files: never unpickled, and whatever is wrong with a file is a ValueError."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mps_shards.shards.npy_file import array_in


def test_an_array_is_a_view_that_cannot_be_written(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype="<u4"))

    mapped = array_in((tmp_path / "a.npy").read_bytes())

    assert mapped.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def not_arrays() -> dict[str, bytes]:
    npz, pickled, whole = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, a=1)
    np.save(pickled, np.array([{}], dtype=object))
    np.save(whole, np.arange(100))
    return {
        "empty": b"",
        "garbage": b"garbage" * 9,
        "npz": npz.getvalue(),
        "pickled": pickled.getvalue(),
        "cut off": whole.getvalue()[:300],
        "cut off in the header": whole.getvalue()[:50],
        "unbalanced header": whole.getvalue().replace(b"(100,)", b"((((((", 1),
        "header of deep nesting": whole.getvalue()[:8] + b"\xf6\x01" + b"(" * 502,
        "a type that is none": whole.getvalue().replace(b"'<i8'", b"',u8'", 1),
        "a shape that is none": whole.getvalue().replace(b"(100,)", b"{(1,):", 1),
    }


@pytest.mark.parametrize("kind", not_arrays())
def test_a_file_that_is_no_array_is_a_value_error(tmp_path: Path, kind: str):
    (tmp_path / "index.npy").write_bytes(not_arrays()[kind])

    with pytest.raises(ValueError):
        array_in((tmp_path / "index.npy").read_bytes())


# literal_eval, by which NumPy reads a header, is not safe between threads before CPython 3.11.8 (python/cpython#106905)
def test_threads_that_map_an_array_at_the_same_time_all_get_it(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros(3, dtype=[("offset", "<u8"), ("size", "<u4")]))
    script = f"""
import gc, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mps_shards.shards.npy_file import array_in
sys.setswitchinterval(1e-6)
gc.set_threshold(10, 5, 5)
gc.callbacks.append(lambda *_: sum(range(50)))  # as Hypothesis does: collecting runs Python, so threads change there
def often(path):
    return [array_in(Path(path).read_bytes()).shape for _ in range(400)]
with ThreadPoolExecutor(8) as pool:
    assert all(shapes == [(3,)] * 400 for shapes in pool.map(often, [Path({str(tmp_path / "a.npy")!r})] * 8))
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr[-300:]


@pytest.mark.parametrize(
    "header", ["(" * 9000, "-" * 9000 + "1", "{{}}", f"{{'descr': '<u8', 'fortran_order': False, 'shape': ({2**64},)}}"]
)
def test_an_array_s_header_that_numpy_trips_over_is_a_value_error(tmp_path, header):
    path = tmp_path / "index.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n")

    with pytest.raises(ValueError, match=r"its header cannot be understood|too few for its shape"):
        array_in(path.read_bytes())
