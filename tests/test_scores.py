"""Probabilities of logits, and the best of them."""

from __future__ import annotations

import numpy as np
import pytest

from vlt import scores

EPS = float(np.finfo(np.float32).eps)


@pytest.mark.filterwarnings("error")
def test_functions_at_the_ends_of_float32() -> None:
    huge = np.array([[-3e38, -100, 0, 100, 3e38]], np.float32)
    sigmoid = scores.sigmoid(huge)
    assert sigmoid.dtype == np.float32
    np.testing.assert_allclose(sigmoid, [[0, 3.783506e-44, 0.5, 1, 1]], rtol=0.01)
    np.testing.assert_array_equal(scores.softmax(huge / np.float32(2)), [[0, 0, 0, 0, 1]])


def test_functions_against_double_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 8, (50, 7)).astype(np.float32)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(scores.sigmoid(logits), 1 / (1 + np.exp(-exact)), rtol=20 * EPS)
    powers = np.exp(exact)
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = scores.softmax(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=100 * EPS)  # exp of up to 40 loses as many eps
    with pytest.raises(ValueError, match="'sigmoid', 'softmax', 'none', not 'relu'"):
        scores.function_named("relu")


def test_largest_is_a_stable_sort() -> None:
    values = np.random.default_rng(1).integers(0, 6, 40).astype(np.float32)
    order = np.argsort(-values, kind="stable")
    for count in (1, 2, 5, 20, 39, 40, 99):
        np.testing.assert_array_equal(scores.largest(values, count), order[:count])
    assert scores.largest(values[:0], 3).tolist() == []
