"""Train a small segmentation network on a shard set with masks. Ctrl-C saves a checkpoint; the next start continues.

python tools/examples/segmentation.py things-shards
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that the script can also be run as a file

from mps_shards import Collate, DeviceLoader, ShardDataset, segment, watch
from mps_shards.errors import ConfigError
from tools.examples.training import Interrupt, Recorder, load, save


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and return the exit code: 0 after the last epoch, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="shard set with masks")
    parser.add_argument("--val", help="shard set for validation after each epoch, at the stored size of its images")
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("segmentation.pt"), help="checkpoint file (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=20, help="number of epochs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="samples per batch (default: %(default)s)")
    parser.add_argument("--size", type=int, default=192, help="side of the crops in pixels (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, mps, cuda or cpu (default: %(default)s)")
    parser.add_argument("--record", type=Path, help="append the keys of each batch to this file")
    return train(parser.parse_args(arguments))


def train(given: argparse.Namespace) -> int:
    """Run the training loop, and return the exit code."""
    torch.manual_seed(0)
    try:
        data = ShardDataset(
            given.shards, batch_size=given.batch_size, transform=segment.train(given.size), shuffle=True, keys=True
        )
    except ConfigError as error:  # for instance, the set has no label maps
        sys.exit(str(error))
    ignored, classes = ignored_id(data), data.num_classes
    record = Recorder(given.record)
    with DeviceLoader(data, device=given.device) as loader, Interrupt() as interrupt:
        net = Network(classes).to(loader.device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        for epoch in range(load(given.checkpoint, net, optimizer, loader), given.epochs):
            loader.set_epoch(epoch)  # keeps the position that was loaded from a checkpoint
            counts = torch.zeros(classes, classes, dtype=torch.int64, device=loader.device)
            for images, masks, keys in watch(loader, f"epoch {epoch}"):
                scores = net(images)
                loss = F.cross_entropy(scores, masks, ignore_index=ignored)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
                counts += confusion(scores.argmax(1), masks, classes, ignored)
                record.step(keys)
                if interrupt.asked(loader.device):
                    save(given.checkpoint, net, optimizer, loader, 0)
                    print(f"stopped in epoch {epoch}; the next start continues from {given.checkpoint}", flush=True)
                    return 130
            save(given.checkpoint, net, optimizer, loader, 0)
            held_out = f", {evaluated(net, given):.3f} on {given.val}" if given.val else ""
            print(f"epoch {epoch}: mean IoU {mean_iou(counts):.3f} while training{held_out}", flush=True)
    return 0


@torch.no_grad()
def evaluated(net: nn.Module, given: argparse.Namespace) -> float:
    """Return the mean IoU on the validation set at the stored size of its images, the mean scale of training."""
    data = ShardDataset(given.val, batch_size=given.batch_size, transform=segment.evaluate(), collate=Collate(pad=8))
    counts = torch.zeros(data.num_classes, data.num_classes, dtype=torch.int64)
    net.eval()
    with DeviceLoader(data, device=given.device) as loader:
        for images, (masks, _) in loader:
            counts += confusion(net(images).argmax(1), masks, data.num_classes, ignored_id(data)).cpu()
    net.train()
    return mean_iou(counts)


def ignored_id(data: ShardDataset) -> int:
    """Return the label id that loss and IoU ignore. Padding has this id; it is 255 if the set names none."""
    return 255 if data.ignore_index is None else data.ignore_index


class Network(nn.Module):
    """A small U-Net: three downsampling blocks and two upsampling blocks with skip connections."""

    def __init__(self, classes: int):
        super().__init__()
        self.down = nn.ModuleList(block(given, out, 2) for given, out in ((3, 16), (16, 32), (32, 64)))
        self.up = nn.ModuleList(block(given, out, 1) for given, out in ((64 + 32, 32), (32 + 16, 16)))
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores [batch, classes, height, width] for images float32 [batch, 3, height, width]."""
        seen = [images]
        for layer in self.down:
            seen.append(layer(seen[-1]))
        found = seen.pop()
        for layer in self.up:
            across = seen.pop()
            found = layer(torch.cat([F.interpolate(found, size=across.shape[-2:]), across], dim=1))
        scores: torch.Tensor = F.interpolate(self.head(found), size=images.shape[-2:], mode="bilinear")
        return scores


def block(given: int, out: int, stride: int) -> nn.Module:
    """Return a convolution with batch normalization and ReLU."""
    convolution = nn.Conv2d(given, out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def confusion(found: torch.Tensor, masks: torch.Tensor, classes: int, ignored: int) -> torch.Tensor:
    """Return the confusion matrix: entry [i, j] counts pixels of class i that were predicted as class j."""
    counted = masks != ignored
    pairs = masks[counted] * classes + found[counted]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def mean_iou(counts: torch.Tensor) -> float:
    """Return the intersection over union, averaged over the classes that occur."""
    counts = counts.cpu().double()  # MPS has no float64
    both = counts.diag()
    either = counts.sum(0) + counts.sum(1) - both
    return float((both / either)[either > 0].mean())


if __name__ == "__main__":
    sys.exit(main())
