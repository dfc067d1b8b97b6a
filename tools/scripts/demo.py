"""Demo on real photographs without a download: pack, stream to the best device, train, resume.

make demo                 a few hundred photographs, well under a minute on two cores
make demo ARGS=--help     shows the options
"""

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
if TYPE_CHECKING:
    import torch

    from mps_shards import DeviceLoader, ShardDataset

__all__ = ["main"]

SIZE = 128  # pixels; side of the crops for training
_FEWEST = 150  # smallest number of photographs: ten per class
FALLEN = 0.6  # the last epoch's loss must be below this share of the first batches' loss; 0.2 is usual

# These programs are run and then printed unchanged. `net` and its optimizer are plain torch.
READ = """\
from mps_shards import DeviceLoader, ShardDataset, classify, pack
pack({photos!r}, {shards!r}, shard_samples={shard_samples})
data = ShardDataset({train!r}, batch_size=32, transform=classify.train({size}, scale=(0.3, 1.0)), shuffle=True)
loader = DeviceLoader(data, device={device!r})
"""
TRAIN = """\
for epoch in range({epochs}):
    data.set_epoch(epoch)
    for images, targets in loader:
        loss = torch.nn.functional.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step(), optimizer.zero_grad()
"""


def main() -> int:
    """Run the demo, and return the exit code: 0 if all results are as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), help="folder whose photos and shards are replaced: %(default)s"
    )
    parser.add_argument("--device", default="auto", help="mps, cuda, cpu, or auto: the first of these that exists")
    parser.add_argument("--photos", type=int, default=600, help="number of photographs (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="number of training epochs (default: %(default)s)")
    given = parser.parse_args()
    if given.photos < _FEWEST or given.epochs < 2:
        parser.error(f"the network needs at least {_FEWEST} photographs and two epochs to learn something")
    from mps_shards.errors import ShardsError

    began = time.perf_counter()
    try:
        run(given.out, device=given.device, photos=given.photos, epochs=given.epochs)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    except (DemoFailed, ShardsError, ModuleNotFoundError) as failed:
        print(f"\nThe demo failed: {failed}")
        return 1
    print(f"\nDone in {time.perf_counter() - began:.0f} s.")
    return 0


class DemoFailed(Exception):
    """A result of the demo is not as expected."""


def run(out: Path, *, device: str, photos: int, epochs: int) -> None:
    """Run all steps of the demo, and write their files to `out`."""
    heading("Make photographs from those that scikit-image and scikit-learn contain")
    from tools.scripts.photos import make_photos

    out.mkdir(parents=True, exist_ok=True)
    for part in ("photos", "shards"):  # files of the last run; other files of the folder are kept
        shutil.rmtree(out / part, ignore_errors=True)
    made = make_photos(out / "photos", count=photos, size=(256, 256), split=True)
    print(f"{len(made)} JPEG files, {sum(path.stat().st_size for path in made) / 1e6:.1f} MB, in {out / 'photos'}")

    import torch

    torch.manual_seed(0)
    read, train = ten_lines(out, device=device, photos=photos, epochs=epochs)
    names: dict[str, Any] = {"torch": torch}

    heading("Pack them into WebDataset shards, and show what one set holds")
    exec(compile(read, "<the ten lines>", "exec"), names)
    with names["loader"] as loader:
        for part in ("train", "val"):
            shards = sorted((out / "shards" / part).glob("*.tar"))
            print(f"{out / 'shards' / part}: {', '.join(path.name for path in shards)}")
        show_manifest(out / "shards" / "train")

        heading(f"Stream two epochs to {loader.device}")
        print(loader.explain())
        stream(names["data"], loader)

        heading("Train a small network on the batches")
        classes = names["data"].source.classes
        names["net"] = net = small_network(len(classes)).to(loader.device)
        names["optimizer"] = torch.optim.AdamW(net.parameters(), lr=3e-3)
        with shown_losses(names, epochs) as losses:
            exec(compile(train, "<the ten lines>", "exec"), names)
        right, of = validate(net, out / "shards" / "val", device)
        per_epoch = len(losses) // epochs
        first, last = mean(losses[:3]), mean(losses[-per_epoch:])
        print(f"loss {first:.3f} at the start, {last:.3f} at the end; {right} of {of} validation images correct")

        heading("Draw one delivered batch")
        draw(names["data"], loader, out / "batch.png")

    heading("Stop in the middle of an epoch, resume in a new loader")
    resume(out / "shards" / "train", device)

    heading("The ten lines that did all this (net and optimizer are plain torch)")
    print(read + train, end="")
    if last >= FALLEN * first:
        raise DemoFailed(f"the loss fell only from {first:.3f} to {last:.3f}")


def ten_lines(out: Path, *, device: str, photos: int, epochs: int) -> tuple[str, str]:
    """Return the program that the demo runs and prints, in two parts: reading and training."""
    values = {
        "photos": str(out / "photos"),
        "shards": str(out / "shards"),
        "train": str(out / "shards" / "train"),
        "shard_samples": max(32, photos // 5),
        "size": SIZE,
        "device": device,
        "epochs": epochs,
    }
    return READ.format(**values), TRAIN.format(**values)


def heading(text: str) -> None:
    """Print the title of the next step."""
    print(f"\n== {text}", flush=True)


def show_manifest(folder: Path) -> None:
    """Print what ``mps-shards info`` prints about a shard set."""
    from mps_shards.cli import cli

    print(f"$ mps-shards info {folder}", flush=True)
    if cli.main(["info", str(folder)], prog_name="mps-shards", standalone_mode=False):
        raise DemoFailed("mps-shards info failed")


def stream(data: "ShardDataset", loader: "DeviceLoader") -> None:
    """Iterate over two epochs as fast as possible, and print the rate."""
    for epoch in range(2):
        data.set_epoch(epoch)
        seen = 0
        began = time.perf_counter()
        for images, _ in loader:
            seen += len(images)
            rate = seen / (time.perf_counter() - began)
            progress(f"epoch {epoch + 1} of 2: {seen:5,} images, {rate:6,.0f} images/s")
        progress(
            f"epoch {epoch + 1} of 2: {seen:5,} images, {rate:6,.0f} images/s ({loader.stats().verdict()})", last=True
        )


@contextlib.contextmanager
def shown_losses(names: dict[str, Any], epochs: int) -> Iterator[list[float]]:
    """Record the loss of each training step in the yielded list, and print a line per epoch."""
    losses: list[float] = []
    steps = len(names["loader"])
    began = time.perf_counter()

    def after_step(*_: object) -> None:
        losses.append(names["loss"].item())
        epoch, step = divmod(len(losses) - 1, steps)
        ended = step == steps - 1
        loss = mean(losses[epoch * steps :])
        bar = "#" * round(12 * loss)
        took = time.perf_counter() - began
        progress(f"epoch {epoch + 1:2} of {epochs}: loss {loss:.3f} {bar} ({took:.1f} s)", last=ended)

    hook = names["optimizer"].register_step_post_hook(after_step)
    try:
        yield losses
    finally:
        hook.remove()


def small_network(classes: int) -> "torch.nn.Module":
    """Return a network with four convolutions and 60,000 parameters."""
    from torch import nn

    def block(given: int, out: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(given, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        )

    return nn.Sequential(
        nn.AvgPool2d(2),
        block(3, 16, 2),
        block(16, 32, 2),
        block(32, 64, 2),
        block(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def validate(net: "torch.nn.Module", shards: Path, device: str) -> tuple[int, int]:
    """Return how many images of the validation set are classified correctly, and the number of images."""
    import torch

    from mps_shards import DeviceLoader, ShardDataset, classify

    right = of = 0
    net.eval()
    data = ShardDataset(shards, batch_size=64, transform=classify.evaluate(SIZE))
    with DeviceLoader(data, device=device) as loader, torch.no_grad():
        for images, targets in loader:
            right += int((net(images).argmax(1) == targets).sum())
            of += len(targets)
    net.train()
    return right, of


def draw(data: "ShardDataset", loader: "DeviceLoader", path: Path) -> None:
    """Write a contact sheet of one batch as the training loop gets it."""
    import numpy as np

    from mps_shards.inspect.contact_sheet import Tile, contact_sheet
    from mps_shards.inspect.palette_colours import class_colour

    images, targets = next(iter(loader))
    pictures = np.rint(images.cpu().numpy().transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    shape = ", ".join(map(str, images.shape))
    kind = str(images.dtype).removeprefix("torch.")
    contact_sheet(
        [
            Tile([picture], data.source.classes[target], class_colour(target))
            for picture, target in zip(pictures, targets.tolist(), strict=True)
        ],
        title=f"One delivered batch of {len(images)}",
        subtitle=f"mps-shards   {kind} [{shape}]   RGB, {images.min():.0f}..{images.max():.0f}   on {images.device}",
    ).save(path)
    print(f"{path}: {len(images)} crops and their labels")


def resume(shards: Path, device: str) -> None:
    """Check that a second loader, resumed after three batches, delivers the batch that the first loader delivers."""
    import torch

    from mps_shards import DeviceLoader, ShardDataset, classify

    def opened() -> DeviceLoader:
        data = ShardDataset(shards, batch_size=8, transform=classify.train(SIZE), shuffle=True, keys=True)
        return DeviceLoader(data, device=device)

    with opened() as first, opened() as second:
        batches = iter(first)
        for _ in range(3):
            next(batches)
        state = first.state_dict()
        images, _, keys = next(batches)
        second.load_state_dict(state)
        again, _, same_keys = next(iter(second))
    if keys != same_keys or not torch.equal(images, again):
        raise DemoFailed(f"resuming gave {same_keys}, not {keys}")
    print(f"stopped after 3 batches; the next one has the same {len(keys)} keys and the same pixels: {keys[0]}, …")


def progress(line: str, *, last: bool = False) -> None:
    """Print a line that the next one replaces on a terminal; without a terminal, print only the last line."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="\n" if last else "", flush=True)
    elif last:
        print(line, flush=True)


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
