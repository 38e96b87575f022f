"""Attention over one batch in poisoned memory, as its tests use it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from gpu import kernels, native, references
from gpu.batches import Plan
from gpu.cases import name_of
from gpu.guarded import Guarded, guard
from gpu.kernels import DEVICE
from gpu.relative import Relative
from torch.nn.attention import SDPBackend, sdpa_kernel

FAMILIES = ("mma", "hopper", "relative", "fp32")
_KERNELS = {
    "mma": ("short_mma", "long_mma"),
    "hopper": ("short_mma", "long_hopper"),
    "relative": ("relative",),
    "fp32": ("fp32",),
}
# cuDNN's kernels are left out: it compiles one for each length, which takes longer than the rest.
_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Problem:
    """qkv [T, 3·A·D] of sequences of given lengths, NaN before, between and behind its rows."""

    def __init__(
        self,
        qkv: torch.Tensor,
        lengths: Sequence[int],
        heads: int,
        relative: Relative | None = None,
    ) -> None:
        self.lengths, self.heads = list(lengths), heads
        self.rows, self.width = sum(lengths), qkv.shape[1] // 3
        self.head_size = self.width // heads
        self.relative = relative
        terms = 1 if relative is None else relative.num_terms
        self.scale = (self.head_size * terms) ** -0.5
        self.dtype = qkv.dtype
        self._qkv = guard(qkv, spare_rows=5)  # max_rows is more than T

    def __str__(self) -> str:
        name = f"A={self.heads} D={self.head_size} {name_of(self.dtype)}"
        return name if self.relative is None else f"{name} {self.relative}"

    def like(self, qkv: torch.Tensor, lengths: Sequence[int]) -> Problem:
        """The same of other sequences."""
        return Problem(qkv, lengths, self.heads, self.relative)

    @property
    def qkv(self) -> torch.Tensor:
        return self._qkv.view[: self.rows]

    def fits(self, family: str) -> bool:
        """Does the family have a kernel for this?"""
        if family == "fp32":
            return self.dtype == torch.float32 or self.relative is not None
        if self.dtype == torch.float32 or (family == "relative") != (self.relative is not None):
            return False
        if family != "hopper":
            return True
        stride = self._qkv.view.stride(0)
        return kernels.device_traits().hopper_kernels and kernels.hopper_attention_fits(
            self.head_size, stride, self.heads
        )

    def run(self, family: str, traits: native.DeviceTraits | None = None) -> tuple[Guarded, Plan]:
        """The output, guarded and with the room that qkv has, and the plan that was used."""
        hopper = family == "hopper"
        query_tile = kernels.hopper_query_tile(self.head_size) if hopper else native.MMA_QUERY_TILE
        plan = Plan.of(self.lengths, query_tile, DEVICE)
        out = Guarded(self._qkv.view.shape[0], self.width, self.dtype, DEVICE)
        for name in _KERNELS[family]:
            kernels.attention(
                name,
                plan,
                self._qkv.view,
                out.view,
                num_heads=self.heads,
                head_size=self.head_size,
                scale=self.scale,
                relative=None if self.relative is None else self.relative.prepared,
                # as an encoder does it
                behind_short=name == "long_hopper",
                plan_is_settled=name == "short_mma",
                traits=traits,
            )
        return out, plan

    def result(self, family: str, traits: native.DeviceTraits | None = None) -> torch.Tensor:
        return self.run(family, traits)[0].view[: self.rows]

    def exact(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The result in float64, and the bound of a kernel's errors."""
        return references.attention(self.qkv, self.lengths, self.heads, self.scale, self.relative)

    def by_torch(self) -> torch.Tensor:
        """What PyTorch makes of it in the same precision, sequences of equal length together."""
        out = torch.zeros((self.rows, self.width), dtype=self.dtype, device=DEVICE)
        with sdpa_kernel(_BACKENDS):
            for rows in references.rows_by_length(self.lengths, DEVICE):
                q, k, v = references.heads_of(self.qkv[rows], self.heads)
                if self.relative is None:
                    y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
                else:  # term by term, each rounded, as models are written
                    scores = (q @ k.transpose(-1, -2)) * self.scale
                    scores = scores + self.relative.scores(q, k, self.scale)
                    y = scores.softmax(dim=-1) @ v
                out[rows] = references.merge_heads(y)
        return out


def sequence_rows(lengths: Sequence[int], index: int) -> slice:
    first = sum(lengths[:index])
    return slice(first, first + lengths[index])
