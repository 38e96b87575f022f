"""One linear layer with random operands in poisoned memory, as the tests of the products use it."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from gpu import kernels, references
from gpu.cases import HIDDEN_SIZES, REDUCED, Random, name_of
from gpu.guarded import ALIGNMENT, Guarded, guard
from gpu.kernels import DEVICE

# (N, K) of the products of the three models: qkv, attention output, up, down.
MODEL_SHAPES = tuple(
    shape
    for h in ((64,) if REDUCED else HIDDEN_SIZES)
    for shape in ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))
)
RAGGED_SHAPES = tuple(
    (n, k)
    for n in ((7, 130) if REDUCED else (1, 7, 26, 130, 312))
    for k in ((17, 72) if REDUCED else (1, 8, 17, 26, 72, 312, 1600))
)


class Problem:
    """activation(a [rows, K] · weightᵀ + bias) + residual, with NaN behind every row of a and
    weight, behind the last rows and behind the bias."""

    def __init__(self, rows: int, shape: tuple[int, int], dtype: torch.dtype) -> None:
        self.outputs, self.inputs = shape
        self.dtype = dtype
        random = Random(rows + 7 * self.outputs + self.inputs)
        self.a = guard(random.normal(rows, self.inputs, dtype=dtype))
        self.weight = guard(
            random.normal(self.outputs, self.inputs, dtype=dtype, scale=self.inputs**-0.5)
        )
        # PyTorch takes a bias in the dtype of the weights: it is made to have no more bits
        self.exact_bias = random.normal(self.outputs, dtype=dtype)
        self.bias = guard(kernels.padded_bias(self.exact_bias)[None, :])
        self.residual = random.normal(rows, self.outputs, dtype=dtype)

    def __str__(self) -> str:
        return f"N={self.outputs} K={self.inputs} {name_of(self.dtype)}"

    def out(self, rows: int, dtype: torch.dtype | None = None) -> Guarded:
        return Guarded(rows, self.outputs, dtype or self.dtype, DEVICE)

    def run(
        self,
        kind: str,
        out: Guarded,
        *,
        first_row: int = 0,
        activation: str = "identity",
        tile: int = -1,
        **options: object,
    ) -> torch.Tensor:
        """Rows first_row … of the problem into all rows of `out`; they are returned.

        The Hopper kernel may write on to the next multiple of 16 bytes in a row, the others not.
        """
        out.spare_cols = -self.outputs % ALIGNMENT if kind == "hopper" else 0
        a = self.a.view[first_row : first_row + len(out.view)]
        kernels.gemm(
            kind,
            a,
            self.weight.view,
            self.bias.view[0],
            out.view,
            activation=activation,
            tile=tile,
            **options,  # type: ignore[arg-type]
        )
        return out.view

    def exact(
        self,
        activation: str = "identity",
        residual: bool = False,
        out_dtype: torch.dtype | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The result in float64, and the bound of a kernel's errors."""
        return references.gemm(
            self.a.view,
            self.weight.view,
            self.exact_bias,
            activation,
            self.residual if residual else None,
            out_dtype or self.dtype,
        )

    @cached_property
    def linear_by_torch(self) -> torch.Tensor:
        return F.linear(self.a.view, self.weight.view, self.exact_bias)

    def by_torch(self, activation: str = "identity", residual: bool = False) -> torch.Tensor:
        """What PyTorch makes of it in the same precision."""
        y = references.EXACT_ACTIVATIONS[activation](self.linear_by_torch)
        return y + self.residual if residual else y
