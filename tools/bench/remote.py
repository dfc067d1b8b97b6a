"""Measure how fast this package, a bare obstore loop and rivals stream shards from an S3 store on this machine.

python -m tools.bench.remote --venv bench-out/rivals-venv
python -m tools.bench.remote --images 12000 --copies 6 --delay-ms 0   # 8 GB: more than a window of the shuffled order

The store is SeaweedFS. awscli and s3fs are installed in their own virtual environment, which is created if it does not
exist. A second table is measured through a proxy that delays each request by 50 ms, which read-ahead should hide.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from mps_shards import DeviceLoader, ShardDataset, pack
from mps_shards.reading.sample_sources import Request
from mps_shards.sampling.rank import Share
from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, Others, headline, machine, spread, table
from tools.scripts.photos import make_imagenet_like
from tools.support.stores import BUCKET, environment, seaweed, upload

__all__ = ["main"]

_PIECE = 8 << 20
_THREADS = 2

_S3FS = """
import sys, s3fs
store = s3fs.S3FileSystem(endpoint_url=sys.argv[1], key="someone", secret="hunter2")
total = 0
for name in sys.argv[2:]:
    with store.open(name, block_size=8 << 20) as file:
        while piece := file.read(1 << 20):
            total += len(piece)
print(total)
"""


class Set:
    """A packed set, copied to the store twice: with its index, and as tars alone."""

    def __init__(self, folder: Path, address: str):
        self.tars = sorted(path.name for path in folder.glob("*.tar"))
        self.bytes = sum((folder / name).stat().st_size for name in self.tars)
        self.samples = len(ShardDataset(folder, batch_size=None))
        self.address, self.url = address, upload(folder, f"s3://{BUCKET}/set")
        for name in ("manifest.json", "index.npy"):
            (folder / name).unlink()
        self.tars_url = upload(folder, f"s3://{BUCKET}/tars")


def bare(held: Set) -> int:
    """Read ranges of 8 MiB, sixteen at a time, and drop them: the upper bound for every reader."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(BUCKET, prefix="set", client_options={"allow_http": True})
    sizes = [(name, obstore.head(store, name)["size"]) for name in held.tars]
    spans = [(name, start, min(start + _PIECE, size)) for name, size in sizes for start in range(0, size, _PIECE)]
    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(lambda span: len(obstore.get_range(store, span[0], start=span[1], end=span[2])), spans))


def ours(held: Set, *, shuffle: bool) -> int:
    """Read samples in the order of an epoch on one thread; they are parsed but not decoded."""
    data = ShardDataset(held.url, batch_size=64, shuffle=shuffle)
    request = Request(seed=0, epoch=0, start=0, batch_size=64, share=Share(), remainder="pad", drop_last=False)
    with contextlib.closing(data):
        found = sum(len([plan.read(row) for row in range(len(plan))]) for plan in data.source.plans(request))
    return _all(held, found)


def ours_streamed(held: Set) -> int:
    """Read the tars without an index, through webdataset's readers, on one thread."""
    data = ShardDataset(held.tars_url, batch_size=64)
    request = Request(seed=0, epoch=0, start=0, batch_size=64, share=Share(), remainder="pad", drop_last=False)
    return _all(held, sum(len(plan) for plan in data.source.plans(request)))


def webdataset_over(form: str) -> Callable[[Set], int]:
    """Return a reader that uses webdataset alone; `form` becomes a URL with a tar's address and path."""

    def read(held: Set) -> int:
        import webdataset

        urls = [form.format(address=held.address, path=f"{BUCKET}/set/{name}") for name in held.tars]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _all(held, sum(1 for _ in webdataset.WebDataset(urls, shardshuffle=False)))

    return read


def s3fs_in(venv: Path) -> Callable[[Set], int]:
    """Return a reader that reads each tar through a file object of s3fs."""

    def read(held: Set) -> int:
        command = [str(venv / "bin/python"), "-c", _S3FS, held.address, *(f"{BUCKET}/set/{name}" for name in held.tars)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return read


def _all(held: Set, samples: int) -> int:
    if samples != held.samples:
        raise RuntimeError(f"{samples} samples arrived, but the set holds {held.samples}")
    return held.bytes


def images(held: Set) -> int:
    """Read and decode all samples to batches on the CPU."""
    with DeviceLoader(ShardDataset(held.url, batch_size=1, shuffle=True), device="cpu", num_threads=_THREADS) as loader:
        return _all(held, sum(len(found) for found, _ in loader))


@contextlib.contextmanager
def delaying_proxy(address: str, delay_s: float) -> Iterator[str]:
    """Run a proxy that passes each request on after a delay, and each response at once; yield its address."""
    host, port = address.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    ends: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket, wait_s: float) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 20):
                time.sleep(wait_s)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                store = socket.create_connection((host, int(port)))
                ends.extend((client, store))
                for end in (client, store):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threads.submit(pump, client, store, delay_s)
                threads.submit(pump, store, client, 0.0)

    with ThreadPoolExecutor(256) as threads:
        threads.submit(serve)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for end in (listener, *ends):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes threads that wait for data
                end.close()


def rivals_venv(folder: Path) -> Path:
    """Return a virtual environment with awscli and s3fs, created if it does not exist."""
    if not (folder / "bin/aws").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "awscli", "s3fs"], check=True)
    return folder.absolute()


def timed(read: Callable[[Set], int], held: Set) -> float:
    """Return the MB/s of a reader, after checking that all bytes arrived."""
    began = time.perf_counter()
    found = read(held)
    elapsed = time.perf_counter() - began
    if found != held.bytes:
        raise RuntimeError(f"{found} bytes arrived, but the tars hold {held.bytes}")
    return held.bytes / 1e6 / elapsed


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print two tables, write JSON lines, and return the figures."""
    parser = bench_parser(__doc__, images=2000, rounds=5)
    parser.add_argument("--copies", type=int, default=1, help="copies of each image in the set (default: %(default)s)")
    parser.add_argument(
        "--delay-ms",
        type=float,
        default=50,
        help="delay of each request in the second table (default: %(default)s); 0 for no second table",
    )
    parser.add_argument("--venv", type=Path, help="virtual environment for awscli and s3fs (default: leave them out)")
    given = parser.parse_args(arguments)
    print(headline(machine()))
    readers: dict[str, Callable[[Set], int]] = {
        "bare obstore": bare,
        "ours, packed order": lambda held: ours(held, shuffle=False),
        "ours, shuffled": lambda held: ours(held, shuffle=True),
        "ours, without an index": ours_streamed,
        "webdataset over curl": webdataset_over("{address}/{path}"),
    }
    if given.venv is not None:
        venv = rivals_venv(given.venv)
        aws = f"pipe:{venv}/bin/aws s3 cp --endpoint-url {{address}} s3://{{path}} -"
        readers |= {"s3fs": s3fs_in(venv), "webdataset, pipe:aws s3 cp": webdataset_over(aws)}
    found: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Lines(given.out / "bench_remote.jsonl", rounds=given.rounds, images=given.images, copies=given.copies) as lines,
        seaweed() as address,
        mock.patch.dict(os.environ, environment(address)),
        Others() as others,
    ):
        make_imagenet_like(Path(folder) / "photos", count=given.images)
        repeat(Path(folder) / "photos", given.copies)
        pack(Path(folder) / "photos", Path(folder) / "set", shard_size="32MB", check=False)
        held = Set(Path(folder) / "set", address)
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(given.rounds):  # interleaved, so that a busy moment affects all readers
            for name, read in readers.items():
                rates[name].append(timed(read, held))
        found += [{"reader": name, "mb_per_s": spread(each)} for name, each in rates.items()]
        if given.delay_ms:
            found += list(with_latency(held, delay_s=given.delay_ms / 1e3, rounds=given.rounds))
        for figures in found:
            lines.write(figures)
    busy = "?" if others.share is None else f"{others.share:.0%}"
    size = f"{held.samples:,} samples, {held.bytes / 1e6:,.0f} MB in {len(held.tars)} tars"
    print(f"\n{size}, {given.rounds} rounds; other processes took {busy} of the machine")
    print_tables(found, delay_ms=given.delay_ms)
    return found


def print_tables(found: list[dict[str, Any]], *, delay_ms: float) -> None:
    """Print the rates beside that of the first reader, the upper bound, and the rates with a delay, if measured."""
    ceiling = found[0]["mb_per_s"]["median"]
    print(table(("", "MB/s", "spread", "of bare"), [_row(each, ceiling) for each in found if "reader" in each]))
    if delay_ms:
        print(f"\nEach request delayed by {delay_ms:.0f} ms")
        print(table(("", "no delay", "delayed", "ratio"), [_latency_row(each) for each in found if "latency" in each]))


def repeat(photos: Path, copies: int) -> None:
    """Add hard links to each photograph, so that there are `copies` of it."""
    for path in [path for path in photos.rglob("*") if path.is_file()]:
        for number in range(1, copies):
            path.with_stem(f"{path.stem}-{number}").hardlink_to(path)


def with_latency(held: Set, *, delay_s: float, rounds: int) -> Iterator[dict[str, Any]]:
    """Measure samples and images per second through a proxy, with and without delay."""
    for name, read in {"samples, shuffled": lambda held: ours(held, shuffle=True), "images, shuffled": images}.items():
        rates: dict[float, list[float]] = {0.0: [], delay_s: []}
        for _ in range(rounds):
            for wait_s, each in rates.items():
                with delaying_proxy(held.address, wait_s) as address, mock.patch.dict(os.environ, environment(address)):
                    each.append(timed(read, held) * held.samples / (held.bytes / 1e6))
        yield {
            "latency": name,
            "delay_s": delay_s,
            "per_s": spread(rates[0.0]),
            "delayed_per_s": spread(rates[delay_s]),
        }


def _row(figures: dict[str, Any], ceiling: float) -> list[str]:
    rate = figures["mb_per_s"]
    spread_ = f"{rate['min']:,.0f}..{rate['max']:,.0f}"
    return [figures["reader"], f"{rate['median']:,.0f}", spread_, f"{rate['median'] / ceiling:.2f}"]


def _latency_row(figures: dict[str, Any]) -> list[str]:
    plain, late = figures["per_s"]["median"], figures["delayed_per_s"]["median"]
    return [figures["latency"], f"{plain:,.0f}/s", f"{late:,.0f}/s", f"{late / plain:.2f}"]


if __name__ == "__main__":
    main()
