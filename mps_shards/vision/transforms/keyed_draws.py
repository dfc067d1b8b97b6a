"""Redirection of a transform's draws from the global generators to the sample's own generator.

torchvision, timm and most users' functions draw from the global generators of torch, NumPy and Python. All threads
share these generators, so the numbers that a sample gets would depend on which thread is faster. Setting the global
state around each call and restoring it afterwards is not possible, because the training loop may draw at the same time.
So draws are redirected, in the calling thread alone and only inside ``with keyed_draws(rng)``:

* torch: a `TorchFunctionMode`, which torch keeps for each thread, adds ``generator=`` to each call that draws;
* NumPy and Python: the functions of the modules ``numpy.random`` and ``random`` are replaced, once a process, by
  functions that ask the thread's own generator inside the block, and the original function everywhere else;
  ``np.random.default_rng()`` without a seed is seeded from the sample's generator inside the block.

The global generators are neither read nor set, so the training loop draws the same numbers as without a loader.
"""

import functools
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

__all__ = ["draws_elsewhere", "keyed_draws"]

_WITH_GENERATOR = frozenset(
    {
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        torch.normal,
        torch.bernoulli,
        torch.multinomial,
        torch.poisson,
        torch._sample_dirichlet,  # torchvision's AugMix and torch.distributions call it
        torch._standard_gamma,
        torch.Tensor.bernoulli,
        torch.Tensor.bernoulli_,
        torch.Tensor.cauchy_,
        torch.Tensor.exponential_,
        torch.Tensor.geometric_,
        torch.Tensor.log_normal_,
        torch.Tensor.multinomial,
        torch.Tensor.normal_,
        torch.Tensor.random_,
        torch.Tensor.uniform_,
    }
)
# In torch 2.9 these functions take no generator, so each call is made through the function without "_like".
_LIKE: dict[Any, Callable[..., torch.Tensor]] = {
    torch.rand_like: torch.rand,
    torch.randn_like: torch.randn,
    torch.randint_like: torch.randint,
}
_WITHOUT_GENERATOR = frozenset(
    {
        torch.dropout,
        torch.nn.functional.alpha_dropout,
        torch.nn.functional.dropout,
        torch.nn.functional.dropout1d,
        torch.nn.functional.dropout2d,
        torch.nn.functional.dropout3d,
        torch.nn.functional.feature_alpha_dropout,
        torch.nn.functional.gumbel_softmax,
        torch.nn.functional.rrelu,
    }
)


class _ThreadDraws(TorchFunctionMode):
    """The redirected generators of one thread, each seeded from the sample's generator at its first draw in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.rng: np.random.Generator | None = None  # generator of the sample in the current block; None outside
        self._torch, self._numpy, self._python = torch.Generator(), np.random.RandomState(0), random.Random(0)
        self.seeded: set[str] = set()  # names of the generators that the current block has seeded

    def _seed(self, kind: str) -> int | None:
        """Return a seed for the generator of this name; None if the current block has seeded it already."""
        if kind in self.seeded or self.rng is None:
            return None
        self.seeded.add(kind)
        return int(self.rng.integers(1 << 32))

    def numpy(self) -> np.random.RandomState:
        """Return this thread's counterpart of NumPy's global generator."""
        if (seed := self._seed("numpy")) is not None:
            self._numpy.seed(seed)
        return self._numpy

    def python(self) -> random.Random:
        """Return this thread's counterpart of Python's global generator."""
        if (seed := self._seed("python")) is not None:
            self._python.seed(seed)
        return self._python

    def torch(self) -> torch.Generator:
        """Return this thread's counterpart of torch's global generator."""
        if (seed := self._seed("torch")) is not None:
            self._torch.manual_seed(seed)
        return self._torch

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _WITH_GENERATOR:
            on_cpu = not isinstance(args[0], torch.Tensor) or args[0].is_cpu if args else True
            if kwargs.get("generator") is None and on_cpu and torch.device(kwargs.get("device") or "cpu").type == "cpu":
                kwargs = {**kwargs, "generator": self.torch()}
        elif func in _LIKE and args[0].is_cpu and not kwargs.get("device"):
            like, *numbers = args
            kwargs = {"dtype": like.dtype, "generator": self.torch(), **kwargs}
            kwargs.pop("memory_format", None)
            return _LIKE[func](*numbers, tuple(like.shape), **kwargs)
        elif func in _WITHOUT_GENERATOR:
            _warn_of(func.__name__)
        return func(*args, **kwargs)


class _Local(threading.local):
    def __init__(self) -> None:
        self.draws = _ThreadDraws()


_local = _Local()


@contextmanager
def keyed_draws(rng: np.random.Generator) -> Iterator[None]:
    """Return a context in which this thread's draws from global generators depend on `rng` alone.

    The first draw from each of the three generators takes one number from `rng`. A nested block has no effect. A block
    takes 3 us, each call of a torch function in it 3 us, and the first draw from each generator 6 to 12 us.
    """
    _redirect_modules()
    draws = _local.draws
    if draws.rng is not None:
        yield
        return
    draws.rng = rng
    draws.seeded.clear()
    try:
        with draws:
            yield
    finally:
        draws.rng = None


def draws_elsewhere(transform: Any) -> list[str]:
    """Return descriptions of the generators that a transform holds, which `keyed_draws` cannot redirect.

    The search covers the attributes of an object, and the closure and the globals that a function uses.
    """
    code = getattr(transform, "__code__", None)
    held = {"transform": transform} | (dict(vars(transform)) if hasattr(transform, "__dict__") else {})
    if code is not None:
        cells = (getattr(transform, "__closure__", None) or ()) if code.co_freevars else ()
        held |= {name: cell.cell_contents for name, cell in zip(code.co_freevars, cells, strict=True)}
        held |= {name: transform.__globals__[name] for name in code.co_names if name in transform.__globals__}
    return [f"{name} ({_kind(value)})" for name, value in held.items() if _kind(value)]


def _kind(value: Any) -> str:
    if isinstance(value, np.random.Generator | np.random.RandomState | random.Random | torch.Generator):
        return type(value).__name__
    if isinstance(value, torch.jit.ScriptModule):
        return "compiled by torch.jit, where draws cannot be redirected"
    if type(value).__module__.split(".")[0] == "albumentations":
        return f"{type(value).__name__} of albumentations: pass it directly as transform="
    owner = getattr(value, "__self__", None)  # a function imported by name before `_redirect_modules` replaced it
    if isinstance(owner, np.random.RandomState | random.Random):
        return f"{type(owner).__name__}.{value.__name__}, imported by name"
    return ""


@functools.cache
def _warn_of(name: str) -> None:
    warnings.warn(
        f"the transform calls {name}, which can only draw from torch's global generator, so that its results depend "
        "on the number of threads; draw with torch.rand or with the rng that a third argument receives",
        stacklevel=2,
    )


@functools.cache
def _redirect_modules() -> None:
    """Replace the functions of `random` and `numpy.random` by redirected ones, once in a process."""
    for module, kind in ((random, "python"), (np.random, "numpy")):
        for name in module.__all__:
            function = getattr(module, name)
            if isinstance(getattr(function, "__self__", None), random.Random | np.random.RandomState):
                setattr(module, name, _redirected(function, kind, module.__name__))
    np.random.default_rng = _default_rng(np.random.default_rng)


def _default_rng(function: Callable[..., np.random.Generator]) -> Callable[..., np.random.Generator]:
    """Return a `default_rng` that, if it is called without a seed in a block, takes one from the sample's generator."""

    @functools.wraps(function)
    def default_rng(seed: Any = None) -> np.random.Generator:
        rng = _local.draws.rng
        return function(int(rng.integers(1 << 62)) if seed is None and rng is not None else seed)

    return default_rng


def _redirected(function: Callable[..., Any], kind: str, module: str) -> Callable[..., Any]:
    name = function.__name__

    @functools.wraps(function)
    def draw(*args: Any, **kwargs: Any) -> Any:
        draws = _local.draws
        return (function if draws.rng is None else getattr(getattr(draws, kind)(), name))(*args, **kwargs)

    draw.__module__, draw.__qualname__ = module, name  # pickled by this name
    return draw
