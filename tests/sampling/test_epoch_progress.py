"""Epoch and position where the next iteration begins, in the main process and in DataLoader workers."""

import os
import pickle
from collections.abc import Callable
from multiprocessing import Process
from typing import Any

import pytest

from mps_shards.sampling.epoch_progress import Progress
from mps_shards.sampling.rank import DataLoaderWorker
from tests.support.ranks import inside_worker


def workers(count: int, *, seed: int = 0) -> list[DataLoaderWorker]:
    """Return the workers of a new DataLoader iteration, whose seed differs from that of earlier ones."""
    return [DataLoaderWorker(number, count, seed) for number in range(count)]


def begun(progress: Progress, worker: DataLoaderWorker | None = None) -> tuple[int, int]:
    """Return epoch and start of an iteration that begins now and delivers a batch."""
    number, epoch, start = progress.begin(worker)
    progress.delivered(number)
    return epoch, start


def in_another_process(function: Callable[[], Any]) -> Any:
    """Return the result of the function in a forked process that is not a DataLoader worker."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, pickle.dumps(function()))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        answer = pickle.load(stream)
    assert os.waitpid(child, 0)[1] == 0
    return answer


def test_the_iteration_after_one_that_delivered_a_batch_has_the_next_epoch():
    progress = Progress(4)

    assert [begun(progress) for _ in range(3)] == [(4, 0), (5, 0), (6, 0)]


def test_an_iteration_that_delivered_nothing_does_not_advance_the_epoch():
    progress = Progress(0)
    progress.move(7, 30)

    assert progress.upcoming()[1:] == (7, 30)  # reading the position does not begin an iteration
    assert progress.begin()[1:] == (7, 30)
    assert begun(progress) == (7, 30)
    assert begun(progress) == (8, 0)


def test_setting_the_position_takes_precedence_over_a_running_iteration():
    progress = Progress(0)
    number, *_ = progress.begin()
    progress.move(5, 12)
    progress.delivered(number)

    assert [begun(progress) for _ in range(2)] == [(5, 12), (6, 0)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_all_workers_of_an_iteration_have_one_epoch_and_start_in_any_order(order):
    progress = Progress(0)
    progress.move(1, 30)

    found = []
    for seed in (11, 12):  # new workers for each iteration
        found.append([begun(progress, workers(3, seed=seed)[number]) for number in order])

    assert found == [[(1, 30)] * 3, [(2, 0)] * 3]


def test_persistent_workers_advance_the_epoch_in_each_iteration():
    progress = Progress(0)

    found = [[begun(progress, worker) for worker in workers(2)] for _ in range(3)]

    assert found == [[(0, 0)] * 2, [(1, 0)] * 2, [(2, 0)] * 2]


def test_a_worker_that_never_began_does_not_delay_the_next_epoch():
    progress = Progress(0)
    begun(progress, workers(2, seed=11)[0])  # the loop ended before worker 1 had begun

    assert [begun(progress, worker) for worker in reversed(workers(2, seed=12))] == [(1, 0)] * 2


def test_iterations_with_equal_seeds_are_distinguished_by_their_processes(monkeypatch):
    progress = Progress(0)  # a program that seeds torch before each epoch has the same seed in all iterations

    def in_process(number: int, worker: DataLoaderWorker) -> tuple[int, int]:
        copy = pickle.loads(pickle.dumps(progress))
        copy._shared = progress._shared  # as in a forked process
        with monkeypatch.context() as patch:
            patch.setattr("mps_shards.sampling.epoch_progress.current_process", lambda: Process(name=f"Fork-{number}"))
            return begun(copy, worker)

    first, second = workers(2)
    assert in_process(1, first) == (0, 0)  # the process of worker 2 never began
    assert in_process(4, second) == (1, 0)
    assert in_process(3, first) == (1, 0)


def test_two_iterations_at_a_time_of_two_dataloaders_keep_their_epochs():
    progress = Progress(0)
    one, other = workers(2, seed=11), workers(2, seed=12)

    found = [begun(progress, worker) for pair in zip(one, other, strict=True) for worker in pair]

    assert found == [(0, 0), (1, 0), (0, 0), (1, 0)]


def test_progress_knows_where_the_running_iteration_began_and_whether_workers_make_it():
    progress = Progress(0)
    progress.move(1, 30)

    found = [(progress.current()[1:], progress.in_workers())]
    for worker in (workers(1)[0], workers(1)[0], None):
        begun(progress, worker)
        found.append((progress.current()[1:], progress.in_workers()))
    progress.move(1, 12)
    found.append((progress.current()[1:], progress.in_workers()))

    assert found == [
        ((1, 30), False),
        ((1, 30), True),
        ((2, 0), True),
        ((3, 0), False),
        ((1, 12), False),
    ]


def test_dataloader_workers_share_progress_but_other_processes_do_not():
    progress = Progress(0)

    def moved() -> int:
        progress.move(5, 0)
        return progress.upcoming().epoch

    def moved_in_worker() -> int:
        with inside_worker(None, 0, 1):
            return moved()

    assert in_another_process(moved) == 5
    assert progress.upcoming().epoch == 0
    assert in_another_process(moved_in_worker) == 5
    assert progress.upcoming().epoch == 5


def test_a_pickled_copy_has_progress_of_its_own():
    progress = Progress(0)
    progress.move(3, 8)

    copy = pickle.loads(pickle.dumps(progress))
    progress.move(4, 0)

    assert begun(copy) == (3, 8)
    assert begun(progress) == (4, 0)
