"""docs/ABI.md: clients of older and newer headers work on this library as promised.

`abi/first/vlt.h` is the first header of this ABI version. Nothing that it declares may change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from c_programs import INCLUDE, ROOT, build, run

import vlt

sys.path.insert(0, str(ROOT / "tools"))
from native_header import NativeHeader, parse

FIRST = ROOT / "tests" / "abi" / "first"
EXAMPLE = ROOT / "examples" / "c" / "embed.c"
GROWING_STRUCT = re.compile(r"(typedef struct \w+ \{\n  uint32_t struct_size;.*?)(\n\} \w+;)", re.S)


def header(folder: Path) -> NativeHeader:
    return parse((folder / "vlt.h").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tomorrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vlt.h in which every struct that may grow has grown."""
    text = (INCLUDE / "vlt.h").read_text(encoding="utf-8")
    text, count = GROWING_STRUCT.subn(r"\1\n  uint64_t of_tomorrow;\2", text)
    assert count == sum(
        fields[0][0] == "struct_size" for fields in header(INCLUDE).structs.values()
    )
    folder = tmp_path_factory.mktemp("tomorrow")
    (folder / "vlt.h").write_text(text, encoding="utf-8")
    return folder


def check_example(include: Path, weights: Path, program: Path) -> None:
    build(EXAMPLE, program, standard="c99", include=include)
    printed = run(program, weights, "1", "2", "3", "/", "4")
    actual = np.array([line.split() for line in printed.splitlines()], np.float32)
    with vlt.Encoder(weights) as encoder:
        expected = np.asarray(encoder.run([[1, 2, 3], [4]], output="embedding"))
    np.testing.assert_array_equal(actual, expected)


def test_old_client(tiny_weights: Path, tmp_path: Path) -> None:
    check_example(FIRST, tiny_weights, tmp_path / "embed")


def test_new_client(tomorrow: Path, tiny_weights: Path, tmp_path: Path) -> None:
    check_example(tomorrow, tiny_weights, tmp_path / "embed")


def test_new_fields(tomorrow: Path, tiny_weights: Path, tmp_path: Path) -> None:
    source = ROOT / "tests" / "abi" / "tomorrow.c"
    run(build(source, tmp_path / "tomorrow", include=tomorrow), tiny_weights)


def test_what_the_first_header_declares_is_still_so() -> None:
    first, now = header(FIRST), header(INCLUDE)
    assert first.constants.items() <= now.constants.items()
    assert first.functions.items() <= now.functions.items()
    assert first.callbacks.items() <= now.callbacks.items()
    assert first.aliases.items() <= now.aliases.items()
    assert first.opaque <= now.opaque


@pytest.mark.parametrize("struct", header(FIRST).structs)
def test_structs_only_grow_at_their_end(struct: str) -> None:
    first, now = header(FIRST).structs[struct], header(INCLUDE).structs[struct]
    assert now[: len(first)] == first
    assert now == first or now[0][0] == "struct_size"
