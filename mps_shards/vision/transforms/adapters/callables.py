"""The adapter of functions and modules with the arguments (image), (image, target) or (image, target, rng)."""

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.adapters.adapter import Apply
from mps_shards.vision.transforms.keyed_draws import draws_elsewhere, keyed_draws
from mps_shards.vision.transforms.output_checks import checked_pair

__all__ = ["CallableAdapter"]

# Names of optional second and third parameters that are passed, too. Others, such as ``size=224``, keep their defaults.
_PASSED = {1: ("target", "mask", "masks", "label", "labels", "y"), 2: ("rng", "generator", "random_state")}


class CallableAdapter:
    """Calls a function, or an object with ``__call__`` or ``forward``.

    Draws from the global generators of torch, NumPy and Python depend on the sample alone, see `keyed_draws`. A warning
    names generators that the transform itself holds, because these cannot be redirected.
    """

    planned = None

    def __init__(self, transform: Callable[..., Any]):
        self._transform, self._arguments = transform, argument_count(transform)
        if held := draws_elsewhere(transform):
            warnings.warn(
                f"the transform holds random generators, {', '.join(held)}, whose numbers depend on the number of "
                "threads and on resuming; draw from the rng that a third argument receives",
                stacklevel=2,
            )

    def for_thread(self) -> Apply:
        """Return a function for one thread. A module is copied, because modules may store their last random numbers."""
        transform, arguments = self._transform, self._arguments
        if isinstance(transform, torch.nn.Module):
            transform = copy.deepcopy(transform)

        def apply(image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
            with keyed_draws(rng):
                if arguments == 1:
                    return checked_pair(transform(image), target)
                result = transform(image, target, rng) if arguments == 3 else transform(image, target)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise ConfigError(
                    f"a transform with {arguments} arguments must return (image, target); it returned "
                    f"a value of type {type(result).__name__}"
                )
            return checked_pair(*result)

        return apply


def argument_count(transform: Callable[..., Any]) -> int:
    """Return how many of the three arguments image, target and rng the transform takes, 1 to 3.

    Raises:
        ConfigError: the transform takes no argument, or needs more than three.
    """
    called = transform.forward if isinstance(transform, torch.nn.Module) else transform
    try:
        parameters = list(inspect.signature(called).parameters.values())
    except ValueError:  # a builtin function without a signature, such as some of NumPy's
        return 1
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 3
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    count = sum(each.default is each.empty for each in positional) or min(1, len(positional))
    while count in _PASSED and count < len(positional) and positional[count].name in _PASSED[count]:
        count += 1
    if not 1 <= count <= 3 or any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
        raise ConfigError(
            f"a transform takes (image), (image, target) or (image, target, rng), but this one takes "
            f"{inspect.signature(called)}"
        )
    return count
