"""The kernels' mathematics in float64 with torch, and how far a kernel may be from it.

Every bound has the form: rounding of the stored result, half an epsilon of its dtype, and rounding
of the sums, epsilons of float32 times a norm of the terms that were added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it

EPS32 = torch.finfo(torch.float32).eps

EXACT_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "log_relu": lambda x: x.clamp(min=0).log1p(),
}
# The largest slope of an activation (GELU's is 1.13), and the error of evaluating one in float32:
# epsilons times max(|x|, 1). The fit behind gelu() is 2.4e-6 |x| off near 0, 20 epsilons.
STEEPEST = 1.2
ACTIVATION_EPSILONS = 32


def rounding(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Largest error of rounding to a dtype, subnormal numbers too; a little more than half an ulp,
    because the value that is rounded is itself a little off."""
    info = torch.finfo(dtype)
    return exact.abs() * (0.51 * info.eps) + 0.51 * info.eps * info.tiny


def gemm(
    a: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """activation(a · weightᵀ + bias) + residual, and the bound of its errors.

    Tensor cores add 16 products at a time and drop bits of a partial sum that a larger one pushes
    out, so K / 16 steps lose up to one epsilon each, of at most |a| |w| (Cauchy-Schwarz); 8 more
    for the chunks, the bias and the residual. Plain multiply-adds lose less by that count because
    they round to nearest, errors of either sign: they are given 4 times as much for 16 times the
    steps.
    """
    x = a.double() @ weight.double().T
    size = torch.outer(a.double().norm(dim=1), weight.double().norm(dim=1)) + bias.double().abs()
    x += bias.double()
    steps = weight.shape[1] / (4 if a.dtype == torch.float32 else 16)
    lost = (8 + steps) * EPS32 * size
    y = EXACT_ACTIVATIONS[activation](x)
    if activation != "identity":
        lost = STEEPEST * lost + ACTIVATION_EPSILONS * EPS32 * x.abs().clamp(min=1)
    if residual is not None:
        y = y + residual.double()
        lost = lost + EPS32 * residual.double().abs()
    return y, lost + rounding(y, out_dtype)


class RelativeScores(Protocol):
    """What relative positions add to the scores of queries and keys [n, A, L, D]."""

    def scores(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor: ...

    def largest(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
        """A bound [n, A] on the magnitude of what is added up to any score."""
        ...


def attention(
    qkv: torch.Tensor,
    lengths: Sequence[int],
    heads: int,
    scale: float,
    relative: RelativeScores | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention of each sequence of qkv [T, 3·A·D], and the bound of its errors.

    Scores are float32 sums of D products, so a weight is off by a factor of 1 + e with e of a few
    epsilons of the largest |q| |k| scale; weights are rounded to the dtype before they meet the
    values, to steps no finer than its smallest number; then the result is rounded.
    """
    info = torch.finfo(qkv.dtype)
    out = qkv.new_zeros((len(qkv), qkv.shape[1] // 3), dtype=torch.float64)
    bound = torch.zeros_like(out)
    for rows in rows_by_length(lengths, qkv.device):
        q, k, v = heads_of(qkv[rows].double(), heads)  # each [n, A, L, D]
        scores = (q @ k.transpose(-1, -2)) * scale
        if relative is not None:
            scores = scores + relative.scores(q, k, scale)
        weights = scores.softmax(dim=-1)
        y, size = weights @ v, weights @ v.abs()
        largest = q.norm(dim=-1).amax(-1) * k.norm(dim=-1).amax(-1) * scale
        if relative is not None:
            largest = largest + relative.largest(q, k, scale)
        largest = largest[..., None, None]
        factor = (16 + q.shape[-1] / 16) * EPS32 * (1 + largest) + 32 * EPS32
        if qkv.dtype == torch.float32:
            factor = factor + q.shape[-2] / 4 * EPS32  # a plain sum over the keys
        finest = 0.51 * info.eps * info.tiny * v.abs().sum(dim=-2, keepdim=True)
        lost = (factor + 1.02 * info.eps) * size + finest + rounding(y, qkv.dtype)
        out[rows], bound[rows] = (merge_heads(values) for values in (y, lost))
    return out, bound


def rows_by_length(lengths: Sequence[int], device: torch.device) -> list[torch.Tensor]:
    """For each length that occurs: indices [n, L] of the rows of the n sequences of that length."""
    firsts: dict[int, list[int]] = {}
    first = 0
    for length in lengths:
        if length > 0:
            firsts.setdefault(length, []).append(first)
        first += length
    return [
        torch.tensor(begins, device=device)[:, None] + torch.arange(length, device=device)
        for length, begins in firsts.items()
    ]


def heads_of(qkv: torch.Tensor, heads: int) -> tuple[torch.Tensor, ...]:
    """[n, L, 3·A·D] as queries, keys and values [n, A, L, D]."""
    n, length, width = qkv.shape
    split = qkv.view(n, length, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    return tuple(split.unbind(0))


def merge_heads(values: torch.Tensor) -> torch.Tensor:
    """[n, A, L, D] as [n, L, A·D]."""
    return values.transpose(1, 2).flatten(2)


def layernorm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    epsilon: float,
    out_dtype: torch.dtype,
    terms: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of x (float64) normalised, and the bound; x is the sum of `terms` float32 numbers.

    A lane adds up H / 32 numbers and a warp 5 times; what the mean is off moves every element, and
    the variance is off by as much relative to itself.
    """
    cols = x.shape[1]
    mean = x.mean(dim=1, keepdim=True)
    deviation = ((x - mean).square().mean(dim=1, keepdim=True) + epsilon).sqrt()
    unit = (x - mean) / deviation
    y = unit * weight.double() + bias.double()
    steps = 16 + terms + cols / 32
    largest = x.abs().amax(dim=1, keepdim=True) / deviation
    lost = steps * EPS32 * ((unit.abs() + largest) * weight.double().abs() + bias.double().abs())
    # where the deviation is itself no more than rounding, its error is relative to that rounding
    lost = lost * (1 + steps * EPS32 * largest)
    return y, lost + rounding(y, out_dtype)


def pool(
    states: torch.Tensor, lengths: Sequence[int], starts: Sequence[int], modes: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sequence's rows of states [T, H] from its start on reduced by every mode, and the sums'
    errors: L epsilons of the mean magnitude, no rounding of the result."""
    x = states.double()
    values = x.new_zeros((len(lengths), x.shape[1] * len(modes)))
    bound = torch.zeros_like(values)
    first = 0
    for s, (length, start) in enumerate(zip(lengths, starts, strict=True)):
        part = x[first + start : first + length]
        first += length
        if len(part) == 0:
            continue
        index = torch.arange(start, start + len(part), device=x.device)
        values[s] = torch.cat([_pooled(mode, part, index) for mode in modes])
        sizes = torch.cat([_pooled(mode, part.abs(), index) for mode in modes])
        bound[s] = (8 + len(part)) * EPS32 * sizes
    return values, bound


def _pooled(mode: str, part: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if mode == "cls":
        return part[0]
    if mode == "lasttoken":
        return part[-1]
    if mode == "max":
        return part.amax(dim=0)
    if mode == "mean":
        return part.mean(dim=0)
    if mode == "mean_sqrt_len":
        return part.sum(dim=0) / math.sqrt(len(part))
    weights = (index + 1).double()
    return (part * weights[:, None]).sum(dim=0) / weights.sum()


def normalized(x: torch.Tensor) -> torch.Tensor:
    """Rows (float64) divided by max(L2 norm, 1e-12)."""
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
