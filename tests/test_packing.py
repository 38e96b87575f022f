"""Token ids in every form that callers hold them, and packed states back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlt
from vlt import InvalidArgumentError, PackedArray, pack

RAGGED = [[5, 6, 7], [], [8]]
RIGHT = [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
LEFT = [[5, 6, 7], [0, 0, 0], [0, 0, 8]]
RIGHT_MASK = [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
LEFT_MASK = [[1, 1, 1], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": RAGGED},
        {"ids": tuple(map(tuple, RAGGED))},
        {"ids": [np.array(row, np.int64) for row in RAGGED]},
        {"ids": [np.array([5, 6, 7], np.uint8), [], (8,)]},
        {"ids": [np.array([5, 6, 7], np.uint64), np.array([], np.int64), np.array([8])]},
        {"ids": [range(5, 8), [], [np.int16(8)]]},
        {"ids": [5, 6, 7, 8], "lengths": [3, 0, 1]},
        {"ids": np.array([5, 6, 7, 8], np.uint16), "lengths": np.array([3, 0, 1])},
        {"ids": RIGHT, "lengths": [3, 0, 1]},
        {"ids": RIGHT, "mask": RIGHT_MASK},
        {"ids": LEFT, "mask": LEFT_MASK},
        {"ids": np.array(RIGHT), "lengths": (3, 0, 1)},
        {"ids": np.array(RIGHT).T.copy().T, "mask": np.array(RIGHT_MASK, bool)},
        {"ids": np.array(LEFT, np.int64), "mask": np.array(LEFT_MASK, np.int64)},
    ],
)
def test_every_form_packs_to_the_same(arguments: dict[str, Any]) -> None:
    packed = pack(**arguments)
    assert packed.values.tolist() == [5, 6, 7, 8]
    assert packed.starts.tolist() == [0, 3, 3, 4]
    assert packed.lengths.tolist() == [3, 0, 1]
    assert packed.values.dtype == packed.starts.dtype == np.int32
    assert packed.values.flags.c_contiguous


@pytest.mark.parametrize(
    ("ids", "lengths"),
    [
        ([], []),
        ((), []),
        (np.array([]), []),
        (np.zeros((0, 7), np.int32), []),
        ([[]], [0]),
        (np.zeros((2, 0), np.int32), [0, 0]),
        ([4, 5], [2]),
        (np.array([4, 5]), [2]),
        (range(2), [2]),
        (np.array([[4, 5], [6, 7]]), [2, 2]),
    ],
)
def test_number_of_sequences(ids: Any, lengths: list[int]) -> None:
    assert pack(ids).lengths.tolist() == lengths


def test_extreme_ids_are_kept() -> None:
    extremes = [-(2**31), 2**31 - 1]
    assert pack([extremes]).values.tolist() == extremes
    assert pack(np.array(extremes)).values.tolist() == extremes


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"ids": [[1], [2, 2**31]]}, ValueError, "sequence 1, position 1 holds 2147483648"),
        ({"ids": [[1], [2**70]]}, ValueError, f"sequence 1, position 0 holds {2**70}"),
        (
            {"ids": [[1], [], [-(2**31) - 1]]},
            ValueError,
            "sequence 2, position 0 holds -2147483649",
        ),
        ({"ids": np.array([[1, 2], [3, 2**32]])}, ValueError, "sequence 1, position 1 holds"),
        (
            {"ids": [[1], np.array([2**63], np.uint64)]},
            ValueError,
            f"sequence 1, position 0 holds {2**63}",
        ),
        ({"ids": [1, 2**40], "lengths": [1, 1]}, ValueError, "sequence 1, position 0 holds"),
        ({"ids": [[1], [2, 1.0]]}, TypeError, "sequence 1, position 1 holds 1.0 of type float"),
        ({"ids": [[1, True]]}, TypeError, "position 1 holds True of type bool"),
        ({"ids": [[1, None]]}, TypeError, "None of type NoneType"),
        ({"ids": [[1, "2"]]}, TypeError, "'2' of type str"),
        ({"ids": [1, [2]]}, TypeError, r"position 1 holds \[2\] of type list"),
        ({"ids": [[1], 2]}, TypeError, "sequence 1 is 2 of type int"),
        ({"ids": [[[1]]]}, TypeError, r"holds \[1\] of type list"),
        ({"ids": [[1], np.array([2.0])]}, TypeError, "sequence 1 must be integers.*float64"),
        ({"ids": [[1], np.array([[2]])]}, TypeError, "sequence 1 is array"),
        ({"ids": np.array([1.0])}, TypeError, "float64"),
        ({"ids": np.array([True])}, TypeError, "bool"),
        ({"ids": np.zeros((1, 1, 1), int)}, TypeError, r"\(1, 1, 1\)"),
        ({"ids": np.array(3)}, TypeError, r"shape \(\)"),
        ({"ids": "a text"}, TypeError, "'a text' of type str"),
        ({"ids": ["a text"]}, TypeError, "sequence 0 is 'a text'"),
        ({"ids": {"input_ids": [[1]]}}, TypeError, "of type dict"),
        ({"ids": 7}, TypeError, "7 of type int"),
        ({"ids": [1, 2, 3], "lengths": [2, 2]}, ValueError, "add up to the 3 packed ids, not to 4"),
        ({"ids": [1, 2, 3], "lengths": [4, -1]}, ValueError, "length of sequence 0 is 4"),
        ({"ids": [1, 2, 3], "lengths": [-1, 4]}, ValueError, "length of sequence 0 is -1"),
        ({"ids": [1, 2, 3], "lengths": [1.5, 1.5]}, TypeError, "lengths must be integers"),
        ({"ids": [1, 2, 3], "lengths": [[3]]}, ValueError, "one dimension"),
        ({"ids": RIGHT, "lengths": [3, 0]}, ValueError, "3 rows, but 2 lengths"),
        ({"ids": RIGHT, "lengths": [3, 0, 4]}, ValueError, "length of sequence 2 is 4"),
        ({"ids": RAGGED, "mask": RIGHT_MASK}, ValueError, "row 0 has 3 ids and row 1 has 0"),
        ({"ids": RIGHT, "mask": RIGHT_MASK[:2]}, ValueError, r"\(3, 3\).*\(2, 3\)"),
        ({"ids": [1, 2], "mask": [1, 1]}, ValueError, r"\[S, L\]"),
        ({"ids": RIGHT, "mask": np.ones((3, 3))}, TypeError, "float64"),
        ({"ids": [[1, 2]], "mask": [[1, 2]]}, ValueError, "row 0, column 1 holds 2"),
        ({"ids": [[1], [2]], "mask": [[1], [-1]]}, ValueError, "row 1, column 0 holds -1"),
        (
            {"ids": RIGHT, "mask": [[1, 1, 1], [1, 0, 1], [1, 0, 0]]},
            ValueError,
            "row 1 of the mask",
        ),
        ({"ids": [[1]], "mask": [[1]], "lengths": [1]}, ValueError, "not both"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pack(**arguments)


Rows = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), max_size=6)


@given(rows=Rows, left=st.booleans())
def test_padding_and_packing_agree(rows: list[list[int]], left: bool) -> None:
    longest = max(map(len, rows), default=0)
    padded = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros_like(padded)
    for index, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(len(row))
        padded[index, place] = row
        mask[index, place] = 1
    for packed in (pack(rows), pack(padded, mask=mask)):
        assert packed.values.tolist() == [value for row in rows for value in row]
        assert packed.lengths.tolist() == [len(row) for row in rows]


@pytest.fixture
def states() -> PackedArray:
    return PackedArray(np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 3, 3, 6]))


def test_packed_array_is_a_sequence_of_views(states: PackedArray) -> None:
    assert len(states) == 3
    assert states.lengths == [3, 0, 3]
    assert [part.shape for part in states] == [(3, 2), (0, 2), (3, 2)]
    assert states[2].tolist() == states[-1].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert np.shares_memory(np.asarray(states[0]), states.values)
    assert np.asarray(states[0]) is states[0] or np.asarray(states[0]).base is not None
    for index in (3, -4):
        with pytest.raises(IndexError, match=str(index)):
            states[index]


def test_packed_array_slices(states: PackedArray) -> None:
    tail = states[1:]
    assert tail.lengths == [0, 3]
    assert tail.offsets.tolist() == [0, 0, 3]
    assert np.shares_memory(tail.values, states.values)
    assert [part.tolist() for part in states[::-1]] == [states[i].tolist() for i in (2, 1, 0)]
    assert states[::2].values.tolist() == states.values.tolist()
    assert len(states[3:]) == len(states[2:1]) == 0


def test_packed_array_pads(states: PackedArray) -> None:
    padded, mask = states.to_padded(value=-1)
    assert padded.shape == (3, 3, 2)
    assert mask.tolist() == [[True] * 3, [False] * 3, [True] * 3]
    assert (padded[1] == -1).all()
    assert padded[2].tolist() == states[2].tolist()
    empty, no_mask = states[3:].to_padded()
    assert empty.shape == (0, 0, 2)
    assert no_mask.shape == (0, 0)


def test_packed_array_refuses_to_become_one_array(states: PackedArray) -> None:
    with pytest.raises(TypeError, match="to_padded"):
        np.asarray(states)
    with pytest.raises(InvalidArgumentError, match="7 rows, but there are 6"):
        PackedArray(states.values, np.array([0, 7]))


def test_packed_array_shows_its_lengths(states: PackedArray) -> None:
    assert repr(states) == "PackedArray(3 sequences, lengths [3, 0, 3], values [6, 2] float32)"


@pytest.mark.parametrize(
    ("values", "starts"),
    [
        (np.ones(4, np.int8), np.array([0, 4], np.int32)),
        (np.ones(4, np.int32), np.array([0, 4], np.int64)),
        (np.ones((2, 2), np.int32), np.array([0, 4], np.int32)),
        ([1, 1, 1, 1], np.array([0, 4], np.int32)),
        (np.ones(0, np.int32), np.zeros(0, np.int32)),
    ],
)
def test_packed_ids_are_what_the_library_reads(values: Any, starts: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="PackedIds"):
        vlt.PackedIds(values, starts)


def test_packed_ids_need_not_be_contiguous(tiny_encoder: vlt.Encoder) -> None:
    values = np.arange(1, 21, dtype=np.int32)[::2]
    strided = tiny_encoder.run(vlt.PackedIds(values, np.array([0, 10], np.int32)))
    np.testing.assert_array_equal(strided.values, tiny_encoder.run(values).values)
