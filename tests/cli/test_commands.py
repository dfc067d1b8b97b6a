"""Commands start at once, print one line for an error, and exit with documented exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mps_shards import pack
from mps_shards.cli import cli
from mps_shards.shardset.opening import read_manifest
from mps_shards.storage.local_disk import LocalFolder
from tests.support.images import class_folders, tiny_jpeg, write
from tests.support.sets import shard_set
from tests.support.terminal import shown_on_terminal

ENTRY = Path(sys.executable).with_name("mps-shards")
COMMANDS = sorted(cli.list_commands(None))  # type: ignore[attr-defined]  # a group of ours


def said(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mps_shards", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


def refused(*arguments: object, status: int = 1) -> str:
    """Return the only line of the error message of a command."""
    done = said(*arguments)

    assert done.returncode == status
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert sum(line.startswith("Error: ") for line in lines) == 1
    assert lines[-1].startswith("Error: ")
    return lines[-1].removeprefix("Error: ")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=3, each=4)
    return tmp_path / "imgs"


def loaded(code: str) -> set[str]:
    """Return which slow packages are loaded after running this code."""
    slow = ("torch", "numpy", "webdataset", "PIL", "rich", "msgspec", "torchvision", "obstore")
    script = f"import sys\n{code}\nprint(*[name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_no_slow_package():
    assert loaded("from mps_shards.cli import cli\ntry: cli(['--help'])\nexcept SystemExit: pass") == set()


def test_importing_the_package_loads_no_slow_package():
    assert loaded("import mps_shards; mps_shards.packing") == set()


@pytest.mark.parametrize(
    ("arguments", "more"),
    [(["verify"], set()), (["ls"], set()), (["info"], set()), (["repair"], set()), (["verify", "--decode"], {"PIL"})],
    ids=str,
)
def test_checking_and_listing_load_neither_torch_nor_a_needless_decoder(arguments: list[str], more: set[str]):
    command = [*arguments, str(shard_set([2]))]

    used = loaded(f"from mps_shards.cli import cli\ntry: cli({command!r})\nexcept SystemExit: pass")

    assert used == {"numpy", "msgspec"} | more


def test_packing_loads_no_torch(source: Path):
    used = loaded(f"from mps_shards.cli import cli\ntry: cli(['pack', {str(source)!r}])\nexcept SystemExit: pass")

    assert used == {"numpy", "msgspec", "PIL"}


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_with_examples(flag: str):
    done = said(flag)

    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    assert "Examples:\n    mps-shards pack ./imgs" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str):
    done = said(command, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert "Example" in done.stdout
    assert f"\n    mps-shards {command}" in done.stdout


def test_the_version_is_the_package_s():
    done = said("--version")

    assert done.returncode == 0
    assert done.stdout.strip() == "mps-shards, version 0.1.0"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pak", "x"], "No such command 'pak'"),
        (["pack"], "Missing argument 'SOURCE'"),
        (["pack", "x", "y", "z"], "unexpected extra argument (z)"),
        (["pack", "x", "--shard-samples", "0"], "0 is not in the range x>=1"),
        (["pack", "x", "--workers", "many"], "'many' is not a valid integer range"),
        (["pack", "x", "--layout", "tree"], "'tree' is not one of 'auto', 'classes', 'splits', 'flat'"),
        (["pack", "x", "--sharp-size", "1"], "No such option"),
        (["--turbo"], "No such option"),
        (["info"], "Missing argument 'SET'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(arguments: list[str], complaint: str):
    assert complaint in refused(*arguments, status=2)


def test_a_shell_completes_commands_and_options():
    def completed(*words: str) -> list[str]:
        asked = {
            "_MPS_SHARDS_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(
            ["mps-shards"], executable=ENTRY, env={**os.environ, **asked}, capture_output=True, text=True
        )
        return done.stdout.splitlines()

    assert completed("mps-shards", "in") == ["plain,index", "plain,info"]
    assert completed("mps-shards", "verify", "--de") == ["plain,--decode"]


def test_without_arguments_the_help_is_shown():
    assert "Commands:" in "".join((done := said()).stdout + done.stderr)


def test_pack_prints_its_understanding_of_the_source_and_the_result(source: Path, tmp_path: Path):
    write(source, {"class-1/notes.txt": b"x", "class-2/notes.TXT": b"x", "labels.csv": b"x"})
    (source / "nothing").mkdir()

    done = said("pack", "imgs", cwd=tmp_path)

    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "Found class folders: 3 classes, 12 images",
        "  Why: every image is in one of 3 folders",
        "  Task: classification",
        "  Classes (3), from the names of folders: class-0, class-1, class-2",
        "  Images (12 looked at): 12 JPEG RGB",
        "  Left out, because they hold no images: nothing",
        "  Left out: 3 files of other kinds (2 .txt, 1 .csv)",
        "  Not used, though they look like annotations: class-1/notes.txt, class-2/notes.TXT, labels.csv",
        "Next: mps-shards preview imgs-shards -o sheet.png",
    ]
    made, summary = done.stdout.splitlines()
    assert made.startswith("imgs-shards: 12 samples in 1 shard, 0.0 MB")
    assert summary.startswith("Packed 12 images in 0.")
    assert read_manifest(LocalFolder(tmp_path / "imgs-shards")).samples == 12


def test_pack_passes_its_options_on(source: Path, tmp_path: Path):
    options = ["--shard-samples", "5", "--seed", "3", "--keys", "name", "--layout", "flat", "--workers", "2"]

    said("pack", source, tmp_path / "cli", *options).check_returncode()
    pack(source, tmp_path / "api", shard_samples=5, seed=3, keys="name", layout="flat")

    for name in os.listdir(tmp_path / "api"):
        assert (tmp_path / "cli" / name).read_bytes() == (tmp_path / "api" / name).read_bytes()


def test_pack_keeps_the_order_with_no_shuffle(source: Path, tmp_path: Path):
    said("pack", source, tmp_path / "out", "--no-shuffle", "--shard-size", "8kB").check_returncode()

    assert read_manifest(LocalFolder(tmp_path / "out")).packed.seed is None


def test_pack_s_report_as_json(source: Path, tmp_path: Path):
    done = said("pack", source, tmp_path / "out", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["out"] == str(tmp_path / "out")
    assert report["classes"] == ["class-0", "class-1", "class-2"]
    assert report["sets"][0]["samples"] == 12
    assert report["sets"][0]["fingerprint"] == read_manifest(LocalFolder(tmp_path / "out")).fingerprint


def test_a_terminal_shows_a_progress_bar(source: Path, tmp_path: Path):
    seen = shown_on_terminal("pack", source, tmp_path / "out")

    assert "Found class folders: 3 classes, 12 images" in seen
    assert "12 of 12 images" in seen


@pytest.mark.parametrize(
    ("arguments", "progress", "next_step"),
    [
        (["preview", "SET", "-o", "OUT.png"], "12 of 12 samples", "mps-shards stats SET"),
        (["stats", "SET"], "12 of 12 images", "mps-shards report SET -o report.html"),
        (["report", "SET", "-o", "OUT.html"], "12 of 12 samples", "open OUT.html in a browser"),
        (["verify", "SET"], "MB of 0.0 MB", "mps-shards bench SET"),
        (["repair", "SET"], "MB of 0.0 MB", "mps-shards verify SET --decode"),
        (["unpack", "SET", "OUT"], "12 of 12 samples", "mps-shards pack OUT"),
        (["reshard", "SET", "-o", "OUT"], "12 of 12 samples", "mps-shards info OUT"),
        (["bench", "SET", "--device", "cpu", "--batch-size", "2", "--batches", "4"], "8 of 8 images", "mps-shards "),
        (["info", "SET"], "", "mps-shards preview SET -o sheet.png"),
        (["doctor", "--device", "cpu", "--quick", "--set", "SET"], "", "mps-shards bench SET"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_terminal_sees_progress_with_its_rate_and_then_the_next_step(
    source: Path, tmp_path: Path, arguments: list[str], progress: str, next_step: str
):
    pack(source, tmp_path / "set")
    places = {"SET": str(tmp_path / "set"), "OUT": str(tmp_path / "out")}

    def placed(text: str) -> str:
        return text.replace("SET", places["SET"]).replace("OUT", places["OUT"])

    seen = shown_on_terminal(*map(placed, arguments), columns=200)

    assert progress in seen
    assert not progress or f"{progress.split()[-1]}/s" in seen
    assert f"Next: {placed(next_step)}" in seen.strip().splitlines()[-1]


def test_bad_input_gives_one_line_and_exit_code_1(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    write(tmp_path, {"full/x": b"x", "twins/x.jpg": tiny_jpeg(), "twins/x.png": tiny_jpeg(), "bad/x.jpg": b"no image"})
    (tmp_path / "bare").mkdir()

    assert refused("pack", tmp_path / "gone", out) == f"{tmp_path / 'gone'}: no such file or directory"
    assert refused("pack", tmp_path / "bare", out).startswith(f"no images found in {tmp_path / 'bare'}")
    assert refused("pack", source, tmp_path / "full").endswith("full is not empty; remove it or name another place")
    assert refused("pack", tmp_path / "twins", out).endswith("keep extensions in keys (--keys name)")
    assert refused("pack", tmp_path / "bad", out).endswith(
        "remove it or replace it; --on-bad-sample skip leaves it out"
    )
    assert not out.exists()


def test_debug_shows_the_traceback(tmp_path: Path):
    done = said("--debug", "pack", tmp_path / "gone")

    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "mps_shards.storage.folder.FileMissing: " in done.stderr


def test_info_shows_what_a_set_holds(source: Path, tmp_path: Path):
    pack(source, tmp_path / "out", shard_samples=5)

    done = said("info", tmp_path / "out")

    assert (done.returncode, done.stderr) == (0, f"Next: mps-shards preview {tmp_path / 'out'} -o sheet.png\n")
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert shown["task"] == "classification"
    assert shown["samples"] == "12"
    assert shown["classes"] == "3 (class-0, class-1, class-2)"
    assert shown["shards"].startswith("3, ")
    assert shown["packed"] == "from class folders, shuffled with seed 0, by mps-shards 0.1.0"
    assert shown["fingerprint"] == read_manifest(LocalFolder(tmp_path / "out")).fingerprint


def test_info_as_json_is_the_manifest(source: Path, tmp_path: Path):
    pack(source, tmp_path / "out")

    done = said("info", tmp_path / "out", "--json")

    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "manifest.json").read_bytes())


def test_info_of_a_folder_that_is_not_a_set_says_why(source: Path, tmp_path: Path):
    pack(source, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    (tmp_path / "file").touch()

    assert refused("info", tmp_path / "gone") == f"{tmp_path / 'gone'}: no such directory"
    assert refused("info", tmp_path / "file") == f"{tmp_path / 'file'} is a file; name the folder of a shard set"
    assert refused("info", source) == f"{source} has no manifest.json; it is not a finished shard set"
    manifest.write_bytes(manifest.read_bytes().replace(b'"samples": 12', b'"samples": 11', 1))
    assert refused("info", tmp_path / "out") == f"{manifest} states 11 samples, but its shards add up to 12"
    manifest.write_bytes(b"{")
    assert refused("info", tmp_path / "out").startswith(f"{manifest}: ")
    assert "Traceback" in said("--debug", "info", tmp_path / "out").stderr
