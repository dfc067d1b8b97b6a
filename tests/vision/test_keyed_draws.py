"""Global random functions draw from the sample's generator in a transform, and the global generators do not change."""

import pickle
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms as v1

from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms.keyed_draws import draws_elsewhere, keyed_draws

DRAWS: dict[str, Callable[[], Any]] = {
    "torch.rand": lambda: torch.rand(3),
    "torch.randn": lambda: torch.randn(3),
    "torch.randint": lambda: torch.randint(1000, (3,)),
    "torch.randperm": lambda: torch.randperm(9),
    "torch.normal": lambda: torch.normal(0.0, 1.0, (3,)),
    "torch.bernoulli": lambda: torch.bernoulli(torch.full((20,), 0.5)),
    "torch.multinomial": lambda: torch.multinomial(torch.ones(50), 3),
    "torch.rand_like": lambda: torch.rand_like(torch.zeros(3)),
    "torch.randn_like": lambda: torch.randn_like(torch.zeros(3, dtype=torch.uint8), dtype=torch.float32),
    "torch.randint_like": lambda: torch.randint_like(torch.zeros(3), 1000),
    "uniform_": lambda: torch.empty(3).uniform_(2, 3),
    "normal_": lambda: torch.empty(3).normal_(),
    "random_": lambda: torch.empty(3).random_(1000),
    "exponential_": lambda: torch.empty(3).exponential_(),
    "Beta": lambda: torch.distributions.Beta(0.2, 0.2).sample(),
    "Gamma": lambda: torch.distributions.Gamma(2.0, 1.0).sample(),
    "random.random": lambda: random.random(),
    "random.choice": lambda: random.choice(range(1000)),
    "random.shuffle": lambda: shuffled(random.shuffle),
    "random.gauss": lambda: random.gauss(0, 1),
    "np.random.rand": lambda: np.random.rand(3),
    "np.random.randint": lambda: np.random.randint(1000, size=3),
    "np.random.shuffle": lambda: shuffled(np.random.shuffle),
    "np.random.beta": lambda: np.random.beta(0.2, 0.2),
    "np.random.normal": lambda: np.random.normal(),
    "np.random.default_rng": lambda: np.random.default_rng().random(),
}


def shuffled(shuffle: Callable[[list[int]], None]) -> list[int]:
    numbers = list(range(50))
    shuffle(numbers)
    return numbers


def drawn(draw: Callable[[], Any], position: int) -> str:
    with keyed_draws(KeyedRandom(seed=1).at(0, position)):
        return repr(draw())


def states() -> str:
    return repr((random.getstate(), np.random.get_state(), torch.get_rng_state().sum(), torch.get_rng_state()[:99]))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_depend_on_the_key_alone_and_do_not_change_the_global_generators(draw: Callable[[], Any]):
    first = drawn(draw, 5)
    before = states()

    again, other = drawn(draw, 5), drawn(draw, 6)

    assert again == first != other
    assert states() == before


def test_threads_that_draw_at_the_same_time_do_not_disturb_each_other():
    expected = [[drawn(draw, position) for draw in DRAWS.values()] for position in range(8)]
    found: list[Any] = [None] * 8
    start = threading.Barrier(8)

    def work(position: int) -> None:
        start.wait()
        found[position] = [drawn(draw, position) for draw in DRAWS.values()]

    threads = [threading.Thread(target=work, args=[position]) for position in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == expected


def test_the_training_loop_draws_the_same_numbers_while_a_transform_draws():
    def loop() -> list[str]:
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        return [repr(draw()) for _ in range(20) for name, draw in DRAWS.items() if name != "np.random.default_rng"]

    undisturbed, stop = loop(), threading.Event()

    def transform() -> None:
        while not stop.is_set():
            for draw in DRAWS.values():
                drawn(draw, 1)

    thread = threading.Thread(target=transform)
    thread.start()
    try:
        disturbed = loop()
    finally:
        stop.set()
        thread.join()

    assert disturbed == undisturbed


def test_nested_blocks_draw_from_the_outer_block_s_generator():
    with keyed_draws(KeyedRandom(seed=1).at(0, 1)):
        expected = torch.rand(1), torch.rand(1), torch.rand(1)

    with keyed_draws(KeyedRandom(seed=1).at(0, 1)):
        before = torch.rand(1)
        with keyed_draws(KeyedRandom(seed=1).at(0, 2)):
            inner = torch.rand(1)
        after = torch.rand(1)

    assert (before, inner, after) == expected


def test_after_an_error_in_a_block_draws_come_from_the_global_generators():
    with pytest.raises(KeyError), keyed_draws(KeyedRandom(seed=1).at(0, 1)):
        raise KeyError

    before = torch.get_rng_state()
    torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before)


def test_the_functions_of_the_modules_can_still_be_pickled():
    drawn(random.random, 0)

    assert pickle.loads(pickle.dumps(random.random)) is random.random
    assert pickle.loads(pickle.dumps(np.random.rand)) is np.random.rand


def test_dropout_in_a_transform_gives_a_warning():
    with pytest.warns(
        UserWarning, match="the transform calls dropout, which can only draw from torch's global generator"
    ):
        drawn(lambda: torch.nn.functional.dropout(torch.ones(3)), 0)


def test_generators_that_a_transform_holds_are_found():
    rng, generator = np.random.default_rng(0), torch.Generator()

    def closure(image: Any) -> Any:
        return image * rng.random() + torch.rand(1, generator=generator)

    class Holder:
        def __init__(self) -> None:
            self.source = random.Random(1)

    with pytest.warns((DeprecationWarning, FutureWarning), match="torch.jit.script"):
        scripted = torch.jit.script(v1.RandomHorizontalFlip())

    assert draws_elsewhere(scripted)[0] == "transform (compiled by torch.jit, where draws cannot be redirected)"
    assert draws_elsewhere(closure) == ["generator (Generator)", "rng (Generator)"]
    assert draws_elsewhere(Holder()) == ["source (Random)"]
    assert draws_elsewhere(lambda image: image * np.random.rand() * random.random()) == []
