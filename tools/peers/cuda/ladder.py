"""Rungs from PyTorch's padded BERT to vlt, as in ByteTransformer's paper: one change at a time.

None is a peer that anybody would use. Attention is the paper's baseline: padded, and step by step
(product, mask, softmax, product). What packs or fuses comes before it and after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from peers.cuda import Ready, Tensor, Work
from peers.cuda.packed_bert import Attend, embed, layer, positions_of, weights_of


def make_padded(work: Work) -> Ready:
    """Every operation on S · L rows."""
    model, places, attend = weights_of(work.bert), places_of(work), padded_attention(work)
    shape = len(work.lengths) * work.longest
    token_ids = work.token_ids.new_zeros(shape).index_copy_(0, places, work.token_ids)
    positions = torch.arange(work.longest, device=places.device).repeat(len(work.lengths))
    return Ready(
        lambda: model.forward(token_ids, positions, attend, embed, layer),
        packed=lambda states: states[places],
    )


def make_packed(work: Work) -> Ready:
    """The same operations on the T rows of tokens; only attention pads."""
    model, positions, attend = weights_of(work.bert), positions_of(work), repadded_attention(work)
    return Ready(
        lambda: model.forward(work.token_ids, positions, attend, embed, layer),
        packed=lambda states: states,
    )


def make_fused(work: Work) -> Ready:
    """Products with bias, GELU and residual in one kernel, and norms, are vlt's."""
    from gpu import kernels  # of tests/: calls kernels one by one
    from gpu.batches import Plan
    from gpu.native import MMA_QUERY_TILE

    plain, positions, attend = weights_of(work.bert), positions_of(work), repadded_attention(work)
    plan = Plan.of([len(work.token_ids)], MMA_QUERY_TILE, kernels.DEVICE)
    layers = [_fused_weights(kernels, each) for each in plain.layers]

    def run() -> Tensor:
        x = embed(plain.embeddings, work.token_ids, positions)
        for weights in layers:
            x = _fused_layer(kernels, plan, weights, x, plain.num_heads, attend)
        return x

    return Ready(run, packed=lambda states: states)


# ---- Attention -----------------------------------------------------------------------------------


def places_of(work: Work) -> Tensor:
    """[T] int64: where each token is among S · L rows."""
    device = work.token_ids.device
    parts = [
        torch.arange(length, device=device) + row * work.longest
        for row, length in enumerate(work.lengths)
    ]
    return torch.cat(parts)


def padded_attention(work: Work) -> Attend:
    """Of [S · L, A, D] each, step by step."""
    shape = len(work.lengths), work.longest
    mask = torch.full((shape[0] * shape[1],), torch.finfo(work.bert.dtype).min)
    mask = mask.to(work.bert.dtype).to(work.token_ids.device)
    mask[places_of(work)] = 0
    mask = mask.view(shape[0], 1, 1, shape[1])

    def attend(*qkv: Tensor) -> Tensor:
        rows, num_heads, head_size = qkv[0].shape
        q, k, v = (part.reshape(*shape, num_heads, head_size).transpose(1, 2) for part in qkv)
        weights = (q @ k.transpose(-1, -2) * head_size**-0.5 + mask).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(rows, num_heads, head_size)

    return attend


def repadded_attention(work: Work) -> Attend:
    """The same of [T, A, D] each, which are padded for it and packed after it."""
    places, padded = places_of(work), padded_attention(work)
    num_rows = len(work.lengths) * work.longest

    def attend(*qkv: Tensor) -> Tensor:
        rows = [x.new_zeros(num_rows, *x.shape[1:]).index_copy_(0, places, x) for x in qkv]
        return padded(*rows)[places]

    return attend


# ---- vlt's kernels -------------------------------------------------------------------------------


class FusedLayer(NamedTuple):
    qkv: tuple[Tensor, Tensor]  # weight, and bias as the kernels want it
    output: tuple[Tensor, Tensor]
    output_norm: Any
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    down_norm: Any


def _fused_weights(kernels: Any, weights: Any) -> FusedLayer:
    def linear(one: Any) -> tuple[Tensor, Tensor]:
        return one.weight, kernels.padded_bias(one.bias)

    def norm(one: Any) -> Any:
        return kernels.Norm(one.weight.float(), one.bias.float(), one.epsilon)

    return FusedLayer(
        linear(weights.qkv),
        linear(weights.output),
        norm(weights.output_norm),
        linear(weights.up),
        linear(weights.down),
        norm(weights.down_norm),
    )


def _fused_layer(
    kernels: Any,
    plan: Any,
    weights: FusedLayer,
    x: Tensor,
    num_heads: int,
    attend: Callable[..., Tensor],
) -> Tensor:
    kind = "hopper" if kernels.device_traits().hopper_kernels else "mma"
    tokens, hidden_size = x.shape

    def linear(into: Tensor, a: Tensor, weight: tuple[Tensor, Tensor], **options: Any) -> Tensor:
        kernels.gemm(kind, a, *weight, into, **options)
        return into

    def normalised(rows: Tensor, norm: Any) -> Tensor:
        into = torch.empty_like(rows)
        kernels.layernorm(plan, rows, norm, into)
        return into

    qkv = linear(x.new_empty(tokens, 3 * hidden_size), x, weights.qkv)
    heads = qkv.view(tokens, 3, num_heads, hidden_size // num_heads).unbind(1)
    context = attend(*heads).reshape(tokens, hidden_size)
    # the sum takes the residual's place
    x = normalised(linear(x, context, weights.output, residual=x), weights.output_norm)
    wide = x.new_empty(tokens, len(weights.up[0]))
    expanded = linear(wide, x, weights.up, activation="gelu")
    return normalised(linear(x, expanded, weights.down, residual=x), weights.down_norm)
