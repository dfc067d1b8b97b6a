"""The check for other architectures compiles, and finds no difference where both sides are this machine."""

import shutil
import subprocess
import sys

import pytest

from tests.support.native import needs_kernel

pytestmark = [
    needs_kernel(),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="the system's libjpeg is used"),
]


def test_this_machine_agrees_with_itself():
    command = [
        sys.executable,
        "-m",
        "tools.scripts.cross_check",
        "--compiler",
        "gcc",
        "--emulator",
        "",
        "--count",
        "30",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "30 cases, 0 differ" in done.stdout
    assert "30 samples loaded, 0 differ, 3 declined" in done.stdout
