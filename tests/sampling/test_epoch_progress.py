"""Where the next iteration begins, for the main process and for torch workers."""

import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mps_shards.errors import ConfigError
from mps_shards.sampling.epoch_progress import Progress
from mps_shards.sampling.rank import Place
from tests.support.ranks import inside_worker


def worker(number: int, workers: int) -> Place:
    return Place(worker=number, workers=workers)


def in_another_process(function: Callable[[], Any]) -> Any:
    """What the function gives in a fork that is no torch worker."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, pickle.dumps(function()))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        answer = pickle.load(stream)
    assert os.waitpid(child, 0)[1] == 0
    return answer


def test_a_start_is_used_once_and_epochs_then_begin_at_their_start():
    progress = Progress(4)

    assert progress.begin(Place(), in_worker=False) == (4, 0)
    progress.move(7, 30)
    assert progress.upcoming(Place(), in_worker=False) == (7, 30)  # asking uses nothing up
    assert [progress.begin(Place(), in_worker=False) for _ in range(3)] == [(7, 30), (7, 0), (7, 0)]


def test_each_worker_of_a_set_uses_the_start_once():
    progress = Progress(0)
    progress.move(1, 30)

    first = [progress.begin(worker(number, 2), in_worker=True) for number in (1, 0)]
    second = [progress.begin(worker(number, 2), in_worker=True) for number in (0, 1)]

    assert first == [(1, 30)] * 2
    assert second == [(1, 0)] * 2


@pytest.mark.parametrize("others", [1, 3])
def test_a_start_is_not_used_again_by_another_number_of_workers_or_by_the_main_process(others):
    progress = Progress(0)
    progress.move(1, 30)
    progress.begin(worker(0, 2), in_worker=True)

    assert [progress.begin(worker(number, others), in_worker=True) for number in range(others)] == [(1, 0)] * others
    assert progress.begin(Place(), in_worker=False) == (1, 0)


def test_it_knows_where_the_running_iteration_began_and_who_makes_it():
    progress = Progress(0)
    progress.move(1, 30)

    told = [(progress.current_start(), progress.in_workers())]
    for place, in_worker in ((worker(0, 1), True), (worker(0, 1), True), (Place(), False)):
        progress.begin(place, in_worker=in_worker)
        told.append((progress.current_start(), progress.in_workers()))
    progress.move(1, 12)
    told.append((progress.current_start(), progress.in_workers()))

    assert told == [(30, False), (30, True), (0, True), (0, False), (12, False)]


def test_torch_workers_share_it_and_other_processes_do_not():
    progress = Progress(0)

    def moved() -> int:
        progress.move(5, 0)
        return progress.epoch

    def moved_in_worker() -> int:
        with inside_worker(None, 0, 1):
            return moved()

    assert in_another_process(moved) == 5
    assert progress.epoch == 0
    assert in_another_process(moved_in_worker) == 5
    assert progress.epoch == 5


def test_a_pickled_copy_goes_its_own_way():
    progress = Progress(0)
    progress.move(3, 8)

    copy = pickle.loads(pickle.dumps(progress))
    progress.move(4, 0)

    assert copy.begin(Place(), in_worker=False) == (3, 8)
    assert progress.begin(Place(), in_worker=False) == (4, 0)


def test_more_workers_than_there_is_room_for_are_refused():
    with pytest.raises(ConfigError, match="1025 DataLoader workers are more than the 1024"):
        Progress(0).begin(worker(0, 1025), in_worker=True)
