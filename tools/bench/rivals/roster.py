"""The contestants of benchmarks, and the virtual environment that each needs."""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROSTER", "Contestant", "NotInstalled", "python_for"]

ALL = ("W1", "W2", "W3", "W4", "W5", "W6")
PLAIN = ("W1", "W2", "W3", "W4", "W6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One loader in one variant.

    Attributes:
        module: module of this package; its trials run ``-m tools.bench.rivals.MODULE NAME``.
        package: package to install in a virtual environment; None if the project itself installs it.
        role: "ours", a "variant" of ours, a "rival", or a "ceiling": a bare loop that delivers no batches.
    """

    title: str
    module: str
    name: str
    role: str = "rival"
    package: str | None = None
    workloads: tuple[str, ...] = PLAIN


ROSTER = {
    "ours": Contestant(title="mps-shards", module="ours", name="exact", role="ours", workloads=ALL),
    "ours-tiles": Contestant(title="mps-shards, packed with --tiles", module="ours", name="tiles", role="variant"),
    "ours-python": Contestant(
        title="mps-shards without its kernel", module="ours", name="python", role="variant", workloads=ALL
    ),
    "ours-scaled": Contestant(
        title='mps-shards, decode="scaled"', module="ours", name="scaled", role="variant", workloads=("W4",)
    ),
    "webdataset-pil": Contestant(title='webdataset, decode("pil") + transforms', module="of_webdataset", name="pil"),
    "webdataset-rgb8": Contestant(
        title='webdataset, decode("rgb8") + v2 on uint8', module="of_webdataset", name="rgb8", workloads=ALL
    ),
    "folder-pil": Contestant(title="torchvision ImageFolder, Pillow", module="of_torchvision", name="pil"),
    "folder-io": Contestant(title="torchvision ImageFolder, decode_jpeg + v2", module="of_torchvision", name="io"),
    "mlx-data": Contestant(title="mlx-data", module="of_mlx_data", name="threads", package="mlx-data"),
    "spdl": Contestant(title="SPDL, FFmpeg + v2", module="of_spdl", name="ffmpeg", package="spdl"),
    "spdl-simplejpeg": Contestant(title="SPDL, simplejpeg + v2", module="of_spdl", name="simplejpeg", package="spdl"),
    "litdata": Contestant(title="litdata, decode_jpeg + v2", module="of_litdata", name="processes", package="litdata"),
    "dali": Contestant(title="DALI on the CPU", module="of_dali", name="threads", package="nvidia-dali-cuda120"),
    "work": Contestant(title="bare loop: decode, resize, ToTensor", module="ceiling", name="work", role="ceiling"),
    "decode": Contestant(
        title="bare loop: decode only", module="ceiling", name="decode", role="ceiling", workloads=ALL
    ),
}


class NotInstalled(Exception):
    """A rival's package could not be installed; the message is pip's."""


def python_for(package: str | None, folder: Path) -> str:
    """Return the interpreter that can import a rival's package; for no package, this interpreter.

    A rival's virtual environment is created on first use. It also sees the packages of this environment, so that all
    contestants use the same torch.

    Args:
        folder: folder in which virtual environments are kept.

    Raises:
        NotInstalled: pip found no suitable distribution.
    """
    if package is None:
        return sys.executable
    home = folder / package
    python = home / "bin" / "python"
    ready = home / ".ready"
    if not ready.exists():
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], capture_output=True, text=True)
        if made.returncode:
            raise NotInstalled(f"the virtual environment could not be created: {made.stderr.strip()}")
        paths = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        Path(paths.stdout.strip(), "of-the-project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise NotInstalled("; ".join(errors) or done.stderr.strip()[-300:])
        ready.touch()
    return str(python)
