"""Mapping of a function on threads: results in order, bounded work ahead, and no thread left at any end."""

import contextlib
import threading
from itertools import count, islice

import pytest

from mps_shards.storage import cores
from mps_shards.storage.cores import available_cores
from mps_shards.storage.ordered_map import Stopped, ordered_map, raise_if_stopped, worker_pool
from tests.support.interrupting import interrupted, places_of


def threads_of_maps() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mps-shards")]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int):
    assert list(ordered_map(str, range(50), workers=workers)) == [str(number) for number in range(50)]
    assert threads_of_maps() == []


def test_without_items_there_are_no_results_and_no_threads():
    assert list(ordered_map(str, [], workers=3)) == []


def test_only_a_few_items_of_an_endless_source_are_taken_ahead():
    taken = []

    def numbers():
        for number in count():
            taken.append(number)
            yield number

    results = ordered_map(lambda number: number, numbers(), workers=2, ahead=5)

    assert list(islice(results, 10)) == list(range(10))
    assert len(taken) <= 10 + 5
    results.close()
    assert threads_of_maps() == []


def test_no_call_begins_before_the_first_result_is_requested():
    results = ordered_map(str, iter(lambda: pytest.fail("taken"), None), workers=2)

    assert threads_of_maps() == []
    results.close()


def test_at_most_one_item_per_worker_is_processed_at_a_time():
    running, most, lock = [0], [0], threading.Lock()

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.001)
        with lock:
            running[0] -= 1
        return number

    assert list(ordered_map(work, range(40), workers=3)) == list(range(40))
    assert 1 <= most[0] <= 3


def test_an_error_of_the_function_is_raised_in_its_place_and_leaves_no_thread():
    results = ordered_map(lambda number: 10 // (3 - number), range(9), workers=2)

    assert [next(results) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads_of_maps() == []


def test_an_error_drops_later_items_before_it_is_raised():
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        return 10 // (1 - number)

    with worker_pool(1) as pool:
        results = pool.ordered_map(work, range(20), ahead=20)
        assert next(results) == 10
        pool.submit(len, "").result()  # the job is after all others in the queue

        with pytest.raises(ZeroDivisionError):
            next(results)

    assert begun == [0, 1]


def test_an_error_of_the_iterable_is_raised_in_its_place():
    def items():
        yield from (1, 2, 3)
        raise OSError("unreadable")

    results = ordered_map(lambda number: number, items(), workers=2)

    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(OSError, match="unreadable"):
        next(results)


def test_leaving_a_map_ends_long_functions():
    ended: list[type[BaseException]] = []
    begun = threading.Semaphore(0)

    def work(number: int) -> int:
        if not number:
            return number
        begun.release()
        try:
            while True:
                raise_if_stopped()
        except BaseException as error:
            ended.append(type(error))
            raise

    results = ordered_map(work, range(3), workers=3)
    assert next(results) == 0
    for _ in range(2):
        begun.acquire()
    results.close()

    assert ended == [Stopped, Stopped]
    assert threads_of_maps() == []


def test_a_map_inside_a_map_is_stopped_with_the_outer_one():
    ended = threading.Event()
    begun = threading.Event()

    def inner(number: int) -> None:
        begun.set()
        try:
            while True:
                raise_if_stopped()
        finally:
            ended.set()

    def outer(number: int) -> None:
        if number:
            list(ordered_map(inner, [1], workers=1))

    results = ordered_map(outer, range(2), workers=2)
    next(results)
    begun.wait()
    results.close()

    assert ended.is_set()
    assert threads_of_maps() == []


def test_maps_of_several_threads_share_the_workers_of_one_pool():
    def squares(start: int) -> list[int]:
        return list(pool.ordered_map(lambda number: number**2, range(start, start + 20), ahead=4))

    with worker_pool(2, name="mps-shards-shared") as pool:
        found = list(ordered_map(squares, [0, 20, 40], workers=3))
        shared = [name for name in threads_of_maps() if name.startswith("mps-shards-shared")]

    assert [number for part in found for number in part] == [number**2 for number in range(60)]
    assert 1 <= len(shared) <= 2
    assert threads_of_maps() == []


def test_one_map_that_ends_early_leaves_the_others_of_its_pool_alone():
    with worker_pool(2) as pool:
        lasting = pool.ordered_map(lambda number: number, range(30))
        assert next(lasting) == 0
        leaving = pool.ordered_map(lambda number: -number, count())
        assert next(leaving) == 0
        leaving.close()

        assert list(lasting) == list(range(1, 30))


def test_a_submitted_job_gives_its_result_or_its_error():
    with worker_pool(1) as pool:
        assert pool.submit(len, "four").result() == 4
        with pytest.raises(ValueError, match="invalid literal"):
            pool.submit(int, "x").result()


def test_ctrl_c_at_any_line_is_raised_and_leaves_no_thread():
    def with_a_map() -> list[int]:
        return list(ordered_map(lambda number: number + 1, range(6), workers=2, ahead=3))

    def with_a_pool() -> list[int]:
        with worker_pool(2) as pool:
            jobs = [pool.submit(lambda number: number + 1, number) for number in range(2)]
            return [*(job.result() for job in jobs), *pool.ordered_map(lambda number: number + 1, range(2, 6))]

    harmed = []
    for program, place in [(each, place) for each in (with_a_map, with_a_pool) for place in places_of(each)]:
        found: list[int] | None = None
        with interrupted(place) as where, contextlib.suppress(KeyboardInterrupt):
            found = program()
        # a location that depends on the speed of threads may not be visited again
        if threads_of_maps() or (where and found) or (not where and found != [1, 2, 3, 4, 5, 6]):
            harmed.append((where, threads_of_maps(), found))

    assert harmed == []


def test_cores_follow_the_affinity_and_the_quota_of_the_container(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    assert available_cores() == 6

    for text, expected in [("max 100000", 6), ("250000 100000", 3), ("10000 100000", 1), ("900000 100000", 6)]:
        (tmp_path / "cpu.max").write_text(text)
        assert available_cores() == expected

    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    for text, expected in [("-1", 6), ("200000", 2)]:
        (tmp_path / "cpu/cpu.cfs_quota_us").write_text(text)
        assert available_cores() == expected
