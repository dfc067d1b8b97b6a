"""Every fault of the corpus has the outcome that the corpus states, under every policy: no swap, hang or silent
loss of a sample."""

import io
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mps_shards import DeviceLoader, ReadOptions, ShardDataset, SkipRules
from mps_shards.errors import DataError, ShardsError
from mps_shards.shards.key_names import split_member
from mps_shards.shards.raw_sample import IMAGE_FIELDS
from tests.support.faults import FAULTS, Fault, make, summary
from tests.support.images import expected as by_totensor

Sample = tuple[torch.Tensor, Any, str]
CASES = [(fault, False) for fault in FAULTS] + [(fault, True) for fault in FAULTS if fault.kind == "indexed"]


def meant(shards: list[Any], lost: tuple[int, ...]) -> list[Sample]:
    """Return the samples without the lost ones, in order, decoded by Pillow alone."""
    found: list[Sample | None] = []
    for members in shards:
        for key, run in groupby(members, lambda member: split_member(member[0])[0]):
            fields = {split_member(name)[1]: data for name, data in run}
            number = len(found)
            if number in lost:
                found.append(None)
                continue
            [image] = [fields[name] for name in fields if name in IMAGE_FIELDS]
            found.append((by_totensor(image), target(fields), key))
    return [sample for sample in found if sample is not None]


def target(fields: dict[str, bytes]) -> Any:
    if "cls" in fields:
        return int(fields["cls"])
    with Image.open(io.BytesIO(fields["mask.png"])) as mask:
        return torch.from_numpy(np.asarray(mask).astype(np.int64))


def equal(one: Sample, other: Sample) -> bool:
    same_target = torch.equal(torch.as_tensor(one[1]), torch.as_tensor(other[1]))
    return one[2] == other[2] and torch.equal(one[0], other[0]) and same_target


def read(
    fault: Fault, folder: Path, *, verify: bool, on_bad_sample: Any = "raise", log: Path | None = None
) -> tuple[ShardDataset, Iterator[Sample]]:
    rules = SkipRules(policy=on_bad_sample, max_bad=None, log=log)
    options = ReadOptions(verify=verify)
    data = ShardDataset(folder, batch_size=None, keys=True, on_bad_sample=rules, read_options=options)

    def samples() -> Iterator[Sample]:
        for number, sample in enumerate(data):
            if fault.late and number == 0 and fault.files is not None:
                fault.files(folder)
            yield sample

    return data, samples()


@pytest.mark.parametrize(("fault", "verify"), CASES, ids=[f"{fault}{', verified' * bool(v)}" for fault, v in CASES])
def test_a_fault_has_its_outcome_under_every_policy(fault: Fault, verify: bool, tmp_path: Path):
    outcome = fault.verified if verify else fault.outcome
    folders = [tmp_path / name for name in "abcde"]
    shards = [make(folder, fault) for folder in folders].pop()
    if outcome.when == "open":
        for folder, policy in zip(folders, ("raise", "skip", lambda error: True), strict=False):
            with pytest.raises(ShardsError, match=outcome.says):
                ShardDataset(folder, batch_size=1, on_bad_sample=policy, read_options=ReadOptions(verify=verify))
        return
    expected = meant(shards, () if outcome.when == "unseen" else outcome.lost)
    before = meant(shards[:1], ()) if outcome.rest_of_shard else []

    def assert_all_came(given: list[Sample]) -> None:
        come = 0
        while come < min(len(before), len(given)) and equal(given[come], before[come]):
            come += 1
        ours, theirs = (sorted(some, key=lambda sample: sample[2]) for some in (given[come:], expected))
        assert [sample[2] for sample in ours] == [sample[2] for sample in theirs]
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert equal(one, other) != (outcome.when == "unseen" and number in outcome.lost), one[2]

    if outcome.skips:
        for folder, policy in ((folders[0], "raise"), (folders[1], lambda error: False)):
            with pytest.raises(DataError, match=outcome.says):
                list(read(fault, folder, on_bad_sample=policy, verify=verify)[1])
    else:
        assert_all_came(list(read(fault, folders[0], verify=verify)[1]))

    log = tmp_path / "log.jsonl"
    data, samples = read(fault, folders[2], on_bad_sample="skip", log=log, verify=verify)
    assert_all_came(list(samples))
    report = data.skipped
    assert report.count == outcome.skips == len(report.first)
    assert all(re.search(outcome.says, skip.reason) and skip.shard.endswith(".tar") for skip in report.first)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    assert [(line["key"], line["shard"], line["position"], line["reason"]) for line in lines] == list(report.first)

    reported: list[str] = []
    assert_all_came(
        list(read(fault, folders[3], on_bad_sample=lambda e: reported.append(str(e)) is None, verify=verify)[1])
    )
    assert reported == [skip.reason.replace(str(folders[2]), str(folders[3])) for skip in report.first]

    if not fault.late:  # threads that run ahead have read it before
        data = read(fault, folders[4], on_bad_sample="skip", verify=verify)[0]
        with DeviceLoader(data, device="cpu", num_threads=2) as loader:
            assert_all_came(list(loader))
            assert loader.stats().skipped == len(loader.stats().skips) == outcome.skips


def test_the_corpus_is_printed_as_a_table():
    lines = summary().splitlines()

    assert len(lines) == 2 + len({fault.name for fault in FAULTS}) > 60
    assert "| flipped bit in a JPEG | not seen | read (1 of 8) | not seen |" in lines
