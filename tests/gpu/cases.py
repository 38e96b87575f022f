"""What the tests run over: precisions, shapes, row counts, and random numbers that repeat."""

from __future__ import annotations

import os

import torch
from gpu.kernels import DEVICE

# A few small cases of each kernel, for tools that slow it down a hundredfold.
REDUCED = os.environ.get("VLT_GPU_TESTS") == "reduced"

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HALVES = (torch.float16, torch.bfloat16)
HIDDEN_SIZES = (384, 768, 1024)  # MiniLM-L6, BERT-base, BERT-large


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def reduced(values: tuple[int, ...], smallest: int = 3) -> tuple[int, ...]:
    """All values, or in a reduced run the first few and the last."""
    return (*values[: smallest - 1], values[-1]) if REDUCED else values


class Random:
    """Random tensors on the device that depend on the seed alone."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator(DEVICE).manual_seed(seed)

    def normal(
        self, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1
    ) -> torch.Tensor:
        values = torch.randn(shape, generator=self._generator, device=DEVICE)
        return (values * scale).to(dtype)

    def integers(self, high: int, *shape: int) -> torch.Tensor:
        values = torch.randint(high, shape, generator=self._generator, device=DEVICE)
        return values.to(torch.int32)
