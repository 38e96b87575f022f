"""The cost model fits measurements as least squares do, and never has a negative number."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlt
from vlt.scheduling import CostModel, CostPoint

SHAPES = [[8], [32], [16] * 8, [128], [10] * 32, [512], [512, 512], [5, 80, 300]]


def points_of(model: CostModel, noise: list[float]) -> list[CostPoint]:
    return [
        CostPoint(lengths, model.seconds(lengths) * factor)
        for lengths, factor in zip(SHAPES, noise, strict=True)
    ]


def relative_error(model: CostModel, points: list[CostPoint]) -> float:
    return sum((model.seconds(lengths) / seconds - 1) ** 2 for lengths, seconds in points)


@given(
    st.floats(1e-5, 1e-2), st.floats(1e-8, 1e-3), st.one_of(st.just(0.0), st.floats(1e-10, 1e-6))
)
def test_exact_points_give_the_model_back(base: float, token: float, square: float) -> None:
    model = CostModel(base, token, square)
    fitted = CostModel.fit(points_of(model, [1.0] * len(SHAPES)))
    for lengths in SHAPES:
        assert fitted.seconds(lengths) == pytest.approx(model.seconds(lengths), rel=1e-4)


@given(st.lists(st.floats(0.5, 2), min_size=len(SHAPES), max_size=len(SHAPES)))
def test_no_model_nearby_fits_noisy_points_better(noise: list[float]) -> None:
    points = points_of(CostModel(1e-3, 5e-5, 2e-8), noise)
    fitted = CostModel.fit(points)
    least = relative_error(fitted, points)
    steps = (0, 1e-3, -1e-3)
    for a, b, c in itertools.product(steps, repeat=3):
        other = CostModel(
            max(0, fitted.base + a * 1e-3),
            max(0, fitted.per_token + b * 5e-5),
            max(0, fitted.per_square + c * 2e-8),
        )
        assert relative_error(other, points) >= least * (1 - 1e-9) - 1e-12


def test_what_points_do_not_tell_apart_is_zero() -> None:
    assert CostModel.fit([([10], 0.5)] * 3).seconds([10]) == pytest.approx(0.5)
    model = CostModel.fit([([10], 0.5), ([20], 1.0)])
    assert model.seconds([40]) == pytest.approx(2.0)


def test_falling_times_give_no_negative_number() -> None:
    model = CostModel.fit([([10], 3.0), ([100], 2.0), ([1000], 1.0)])
    assert min(model.base, model.per_token, model.per_square) >= 0
    assert model.base > 0


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "num_points is 0; it must be 1"),
        ([([5], 1.0), ([5], 0.0)], r"points\[1\].seconds is 0.000000; it must be finite and above"),
        ([([5], float("nan"))], r"points\[0\].seconds is nan"),
        ([([-5], 1.0)], r"points\[0\].num_tokens is -5"),
    ],
)
def test_wrong_points_are_named(points: list[tuple[list[int], float]], words: str) -> None:
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        CostModel.fit(points)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(vlt.InvalidArgumentError, match="per_token must be 0 or more"):
        CostModel(0.0, -1.0)


def test_measuring_takes_about_as_long_as_it_may(tiny_weights: object) -> None:
    with vlt.Encoder(tiny_weights, num_threads=1) as encoder:  # type: ignore[arg-type]
        start = time.perf_counter()
        model = CostModel.measure(encoder, seconds=0.05)
        assert time.perf_counter() - start < 5  # the bound, and what a loaded machine adds
    numbers = np.array([model.base, model.per_token, model.per_square])
    assert np.isfinite(numbers).all()
    assert model.seconds([6] * 100) > 0
