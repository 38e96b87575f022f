"""Logits -> probabilities, in float32 and without overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


def sigmoid(logits: Float32Array) -> Float32Array:
    """1 / (1 + exp(-x)) of each element."""
    small = np.exp(-np.abs(logits))  # never above 1
    return np.where(logits >= 0, np.float32(1), small) / (1 + small)


def softmax(logits: Float32Array) -> Float32Array:
    """exp(x) over the sum of exp along the last axis; an empty axis stays empty."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    shares: Float32Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def identity(logits: Float32Array) -> Float32Array:
    """The logits themselves."""
    return logits


FUNCTIONS: dict[str, Callable[[Float32Array], Float32Array]] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "none": identity,
}


def function_named(name: str) -> Callable[[Float32Array], Float32Array]:
    """One of `FUNCTIONS`; an InvalidArgumentError names them."""
    if name not in FUNCTIONS:
        known = ", ".join(map(repr, FUNCTIONS))
        raise InvalidArgumentError(f"the function must be one of {known}, not {name!r}")
    return FUNCTIONS[name]


def largest(values: Float32Array, count: int) -> NDArray[np.intp]:
    """Places of the `count` largest values, best first and of equal ones the first."""
    if count < len(values):
        bound = np.partition(values, len(values) - count)[len(values) - count]
        above = np.flatnonzero(values > bound)
        level = np.flatnonzero(values == bound)[: count - len(above)]
        places = np.sort(np.concatenate([above, level]))
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")]
