"""BERT on packed sequences in plain PyTorch functions.

T tokens, H hidden, A heads of D. Weights are tensors in tuples, so that a function compiled for one
layer serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it

from peers.cuda import Tensor, Work

# (q, k, v), each [T, A, D] -> [T, A, D]
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


class Norm(NamedTuple):
    weight: Tensor  # [H]
    bias: Tensor  # [H]
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class Linear(NamedTuple):
    weight: Tensor  # [N, K]
    bias: Tensor  # [N]

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Embeddings(NamedTuple):
    words: Tensor  # [V, H]
    positions: Tensor  # [P, H]
    first_type: Tensor  # [H]
    norm: Norm


class Layer(NamedTuple):
    qkv: Linear  # [3H, H]
    output: Linear
    output_norm: Norm
    up: Linear
    down: Linear
    down_norm: Norm


@dataclass(frozen=True)
class PackedBert:
    """The weights of a model and the order in which they are used."""

    embeddings: Embeddings
    layers: list[Layer]
    num_heads: int

    def tensors(self) -> list[Tensor]:
        """All weights."""
        leaves = torch.utils._pytree.tree_leaves([self.embeddings, self.layers])
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        attend: Attend,
        embed: Callable[..., Tensor],
        layer: Callable[..., Tensor],
    ) -> Tensor:
        """[T] ids and positions -> [T, H]; `embed` and `layer` are those below, or compiled."""
        x = embed(self.embeddings, token_ids, positions)
        for weights in self.layers:
            x = layer(weights, x, self.num_heads, attend)
        return x


def embed(weights: Embeddings, token_ids: Tensor, positions: Tensor) -> Tensor:
    """[T] ids and positions -> [T, H]."""
    x = F.embedding(token_ids, weights.words) + F.embedding(positions, weights.positions)
    return weights.norm(x + weights.first_type)


def layer(weights: Layer, x: Tensor, num_heads: int, attend: Attend) -> Tensor:
    """[T, H] -> [T, H]."""
    num_tokens, hidden_size = x.shape
    qkv = weights.qkv(x).view(num_tokens, 3, num_heads, hidden_size // num_heads)
    context = attend(*qkv.unbind(1)).reshape(num_tokens, hidden_size)
    x = weights.output_norm(x + weights.output(context))
    return weights.down_norm(x + weights.down(F.gelu(weights.up(x))))


def varlen_attention(work: Work) -> Attend:
    """PyTorch's attention on packed sequences (FlashAttention); CUDA, half precision."""
    from torch.nn.attention.varlen import varlen_attn

    starts = starts_of(work)
    longest = work.longest

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return varlen_attn(q, k, v, starts, starts, longest, longest)

    return attend


def plain_attention(work: Work) -> Attend:
    """One sequence after the other by the formula, on any device and in any precision."""
    lengths = list(work.lengths)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        outputs = []
        for one in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
            queries, keys, values = (part.transpose(0, 1) for part in one)  # [A, L, D]
            scores = queries @ keys.transpose(1, 2) * queries.shape[-1] ** -0.5
            outputs.append((scores.softmax(-1) @ values).transpose(0, 1))
        return torch.cat(outputs)

    return attend


def starts_of(work: Work) -> Tensor:
    """[S + 1] int32: where each sequence starts, and the end of the last."""
    lengths = torch.tensor([0, *work.lengths], device=work.token_ids.device)
    return lengths.cumsum(0).to(torch.int32)


def positions_of(work: Work) -> Tensor:
    """[T] int64: each token's place in its sequence."""
    device = work.token_ids.device
    return torch.cat([torch.arange(length, device=device) for length in work.lengths])


def weights_of(bert: Any, dtype: torch.dtype | None = None) -> PackedBert:
    """The weights of a transformers.BertModel, in their own or another precision."""

    def tensor(parameter: Any) -> Tensor:
        return parameter.detach().to(dtype or parameter.dtype)

    def norm(module: Any) -> Norm:
        return Norm(tensor(module.weight), tensor(module.bias), module.eps)

    def linear(*modules: Any) -> Linear:
        weight = torch.cat([tensor(module.weight) for module in modules])
        return Linear(weight, torch.cat([tensor(module.bias) for module in modules]))

    def one_layer(module: Any) -> Layer:
        attention = module.attention.self
        return Layer(
            linear(attention.query, attention.key, attention.value),
            linear(module.attention.output.dense),
            norm(module.attention.output.LayerNorm),
            linear(module.intermediate.dense),
            linear(module.output.dense),
            norm(module.output.LayerNorm),
        )

    tables = bert.embeddings
    embeddings = Embeddings(
        tensor(tables.word_embeddings.weight),
        tensor(tables.position_embeddings.weight),
        tensor(tables.token_type_embeddings.weight)[0],
        norm(tables.LayerNorm),
    )
    layers = [one_layer(module) for module in bert.encoder.layer]
    return PackedBert(embeddings, layers, bert.config.num_attention_heads)


def exact_states(work: Work) -> Tensor:
    """[T, H] float32 states of the same weights, computed in float32 by the formulas."""
    model = weights_of(work.bert, torch.float32)
    return model.forward(work.token_ids, positions_of(work), plain_attention(work), embed, layer)
