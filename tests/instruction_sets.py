"""Encoders on a chosen instruction set, whatever this machine would choose itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import vlt

VARIABLE = "VLT_CPU_ISA"  # read when a model is loaded

# The library's own list, so that a new instruction set is tested as soon as it is built.
_BUILT: tuple[str, ...] = tuple(vlt.build_info()["instruction_sets"])
_ONLY_BFLOAT16 = tuple(name for name in _BUILT if name.endswith("_bf16"))
_ONLY_INT8 = tuple(name for name in _BUILT if name.endswith(("_int8", "_vnni")))
INSTRUCTION_SETS = tuple(name for name in _BUILT if name not in _ONLY_BFLOAT16 + _ONLY_INT8)
FAST = tuple(name for name in INSTRUCTION_SETS if name != "reference")
# What they hold weights in, and those that have something of their own for it.
NARROW = {"bfloat16": _ONLY_BFLOAT16 + FAST, "int8": _ONLY_INT8 + FAST}


def open_encoder(path: Path, instruction_set: str, **options: Any) -> vlt.Encoder:
    """An encoder on one instruction set; skips the test where this processor lacks it."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = instruction_set
    try:
        encoder = vlt.Encoder(path, **options)
    except vlt.UnsupportedError as error:
        pytest.skip(f"{instruction_set}: {error}")
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    assert encoder.kernels == instruction_set, f"asked for {instruction_set}: {encoder.kernels}"
    return encoder
