"""Train a small classifier on a shard set. Ctrl-C saves a checkpoint, and the next start continues with the next batch.

    python tools/examples/classification.py imgs-shards/train --val imgs-shards/val
    torchrun --nproc-per-node 2 tools/examples/classification.py imgs-shards/train

A checkpoint of two ranks can be resumed by one rank or by four, because the checkpoint holds a position in the set.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that the script can also be run as a file

from mps_shards import DeviceLoader, ShardDataset, classify, watch
from tools.examples.training import Interrupt, Recorder, device_of_rank, joined_ranks, load, save

NORMALIZE = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # `mps-shards stats` prints mean and std of your set


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and return the exit code: 0 after the last epoch, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="shard set of labelled images")
    parser.add_argument("--val", help="shard set for validation after each epoch")
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("classification.pt"), help="checkpoint file (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="number of epochs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per batch and rank (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the crops in pixels (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, mps, cuda or cpu (default: %(default)s)")
    parser.add_argument("--record", type=Path, help="append the keys of each batch to this file")
    given = parser.parse_args(arguments)
    try:
        return train(given)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def train(given: argparse.Namespace) -> int:
    """Run the training loop, and return the exit code."""
    rank = joined_ranks()
    torch.manual_seed(0)  # so that all ranks begin with the same weights
    data = ShardDataset(
        given.shards,
        batch_size=given.batch_size,
        transform=classify.train(given.size),
        shuffle=True,
        normalize=NORMALIZE,
        keys=True,
    )
    record = Recorder(given.record)
    with DeviceLoader(data, device=device_of_rank(given.device)) as loader, Interrupt() as interrupt:
        net = network(len(data.source.classes)).to(loader.device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        first = load(given.checkpoint, net, optimizer, loader)
        model = DistributedDataParallel(net) if dist.is_initialized() else net
        for epoch in range(first, given.epochs):
            loader.set_epoch(epoch)  # keeps the position that was loaded from a checkpoint
            for images, targets, keys in watch(loader, f"epoch {epoch}") if rank == 0 else loader:
                loss = F.cross_entropy(model(images), targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
                record.step(keys)
                if interrupt.asked(loader.device):
                    save(given.checkpoint, net, optimizer, loader, rank)
                    say(rank, f"stopped in epoch {epoch}; the next start continues from {given.checkpoint}")
                    return 130
            save(given.checkpoint, net, optimizer, loader, rank)
            right = f", accuracy {accuracy(net, given):.1%} on {given.val}" if given.val and rank == 0 else ""
            say(rank, f"epoch {epoch}: loss {loss.item():.3f}{right}")
    return 0


@torch.no_grad()
def accuracy(net: nn.Module, given: argparse.Namespace) -> float:
    """Return the accuracy of the network on the validation set, 0..1."""
    data = ShardDataset(
        given.val, batch_size=given.batch_size, transform=classify.evaluate(given.size), normalize=NORMALIZE
    )
    right = of = 0
    net.eval()
    with DeviceLoader(data, device=given.device) as loader:
        for images, targets in loader:
            right += int((net(images).argmax(1) == targets).sum())
            of += len(targets)
    net.train()
    return right / of


def network(classes: int) -> nn.Module:
    """Return a network with four convolutions, which is enough to show that training works."""
    layers: list[nn.Module] = []
    for given, out in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(given, out, 3, 2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def say(rank: int, line: str) -> None:
    """Print a line on rank 0 only."""
    if rank == 0:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
