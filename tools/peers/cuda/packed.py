"""PyTorch without padding: F.linear on all tokens, variable-length attention."""

from __future__ import annotations

from collections.abc import Callable

import torch

from peers.cuda import Ready, Tensor, Work
from peers.cuda.graphs import captured, compiled
from peers.cuda.packed_bert import embed, layer, positions_of, varlen_attention, weights_of


def make_eager(work: Work) -> Ready:
    """As a user writes it."""
    return Ready(_forward(work, embed, layer), packed=_as_it_is)


def make_graph(work: Work) -> Ready:
    """Compiled, and replayed from one CUDA graph."""
    run = _forward(work, compiled(embed), compiled(layer))
    return Ready(captured(run), packed=_as_it_is)


def make_whole(work: Work) -> Ready:
    """Left to torch.compile as a whole, CUDA graph included."""
    model, positions, attend = weights_of(work.bert), positions_of(work), varlen_attention(work)
    for weight in model.tensors():
        torch._dynamo.mark_static_address(weight)  # otherwise each run would copy them

    def forward(token_ids: Tensor, positions: Tensor) -> Tensor:
        return model.forward(token_ids, positions, attend, embed, layer)

    whole = torch.compile(forward, mode="reduce-overhead", dynamic=False, fullgraph=True)
    return Ready(lambda: whole(work.token_ids, positions), packed=_as_it_is)


def _forward(
    work: Work, embed: Callable[..., Tensor], layer: Callable[..., Tensor]
) -> Callable[[], Tensor]:
    model, positions, attend = weights_of(work.bert), positions_of(work), varlen_attention(work)
    return lambda: model.forward(work.token_ids, positions, attend, embed, layer)


def _as_it_is(states: Tensor) -> Tensor:
    return states
