"""Every file of `hostile` is refused by both load calls, and nothing else is lost by it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import CASES
from hostile.build import good_file
from hostile.case import Case

from vlt import _native
from vlt.errors import FileError

CPU = (_native.DEVICES["cpu"], 0)


def load(source: str | bytes) -> None:
    """Load a model and free it; raises what the library says."""
    model = _native.model_load(source, CPU, _native.DTYPES["auto"])
    _native.LIBRARY.vlt_model_free(model)


def is_refused(content: bytes) -> bool:
    """Load from memory; any failure but a FileError is passed on."""
    try:
        load(content)
    except FileError:
        return True
    return False


def test_case_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case, tmp_path: Path) -> None:
    content = case.build()
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    for source, name in ((content, "<memory>"), (str(path), f"'{path}'")):
        with pytest.raises(FileError) as caught:
            load(source)
        message = str(caught.value)
        assert message.startswith(f"weights file {name}: ")
        assert not [word for word in case.words if word not in message], message
        load(good_file())


def test_every_prefix_is_refused() -> None:
    good = good_file()
    loaded = [length for length in range(len(good)) if not is_refused(good[:length])]
    assert loaded == []


def flips(seed: int) -> Iterator[tuple[int, int]]:
    """(byte, mask): for each byte before the data its lowest bit, its highest, and random ones."""
    generator = random.Random(seed)
    header_end = 8 + int.from_bytes(good_file()[:8], "little")
    for position in range(header_end):
        yield from ((position, mask) for mask in (0x01, 0x80, generator.randrange(1, 256)))


def test_flipped_bytes_load_or_are_refused() -> None:
    """Most flips are refused; a few change a number or a name into another valid one."""
    refused = loaded = 0
    for position, mask in flips(seed=1):
        content = bytearray(good_file())
        content[position] ^= mask
        if is_refused(bytes(content)):
            refused += 1
        else:
            loaded += 1
    assert refused > 50 * loaded > 0
