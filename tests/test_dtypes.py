"""Rounding of weights: exact both ways where it can be, to nearest even where it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from vlt import dtypes

ALL_BITS = np.arange(1 << 16, dtype=np.uint16)


def test_every_float16_survives_float32() -> None:
    half = ALL_BITS.view(np.float16)
    back = dtypes.from_float32(dtypes.to_float32(half, "F16"), "F16")
    number = ~np.isnan(half)
    np.testing.assert_array_equal(back.view(np.uint16)[number], ALL_BITS[number])
    assert np.isnan(back[~number]).all()


def test_every_bfloat16_survives_float32() -> None:
    wide = dtypes.to_float32(ALL_BITS, "BF16")
    back = dtypes.from_float32(wide, "BF16")
    number = ~np.isnan(wide)
    np.testing.assert_array_equal(back[number], ALL_BITS[number])
    assert np.isnan(dtypes.to_float32(back[~number], "BF16")).all()


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even() -> None:
    lower = np.arange(0x7F7F, dtype=np.uint16)  # every finite value from 0 that has a successor
    middle = (lower.astype(np.uint32) << 16) + 0x8000
    for bits, expected in (
        (middle - 1, lower),
        (middle, lower + (lower & 1)),
        (middle + 1, lower + 1),
    ):
        for sign in (0, 0x8000):
            signed = (bits | np.uint32(sign << 16)).view(np.float32)
            np.testing.assert_array_equal(dtypes.from_float32(signed, "BF16"), expected | sign)


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF])
def test_a_nan_whose_payload_is_cut_stays_a_nan(bits: int) -> None:
    nan = np.array([bits], np.uint32).view(np.float32)
    assert np.isnan(dtypes.to_float32(dtypes.from_float32(nan, "BF16"), "BF16")).all()


@pytest.mark.parametrize(
    ("dtype", "largest", "too_large"),
    [("F16", 65519.0, 65520.0), ("BF16", 3.3961e38, 3.3962e38)],
)
def test_overflow_is_an_error_and_infinity_is_not(
    dtype: str, largest: float, too_large: float
) -> None:
    fine = np.array([largest, -largest, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(
        np.isinf(dtypes.to_float32(dtypes.from_float32(fine, dtype), dtype)),
        [False, False, True, True],
    )
    with pytest.raises(OverflowError, match=f"the value -{too_large:g}".replace("+", r"\+")):
        dtypes.from_float32(np.array([1, -too_large], np.float32), dtype)


def test_formats_that_hold_no_weights_are_named() -> None:
    with pytest.raises(ValueError, match="I64"):
        dtypes.to_float32(np.zeros(1, np.int64), "I64")
    with pytest.raises(ValueError, match="F64"):
        dtypes.from_float32(np.zeros(1, np.float32), "F64")
