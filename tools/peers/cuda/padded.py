"""transformers with scaled_dot_product_attention on one padded batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from peers.cuda import Ready, Tensor, Work
from peers.cuda.graphs import captured, compiled


def make_eager(work: Work) -> Ready:
    """As its documentation shows it."""
    token_ids, mask = pad(work)
    return Ready(_states(work.bert, token_ids, mask), _unpad(mask))


def make_whole(work: Work) -> Ready:
    """Left to torch.compile as a whole, CUDA graph included."""
    token_ids, mask = pad(work)
    whole = torch.compile(work.bert, mode="reduce-overhead", dynamic=False)
    return Ready(_states(whole, token_ids, mask), _unpad(mask))


def make_graph(work: Work) -> Ready:
    """Compiled, and replayed from one CUDA graph, in which the mask is made ahead."""
    token_ids, mask = pad(work)
    bias = attention_bias(work.bert, mask)
    embed, layer = compiled(_embed), compiled(_layer)

    def run() -> Tensor:
        x = embed(work.bert.embeddings, token_ids)
        for module in work.bert.encoder.layer:
            x = layer(module, x, bias)
        return x

    return Ready(captured(run), _unpad(mask))


def pad(work: Work) -> tuple[Tensor, Tensor]:
    """Ids and mask, [S, L] int64 each; the mask is 1 on tokens."""
    shape = len(work.lengths), work.longest
    token_ids = torch.zeros(shape, dtype=torch.int64, device=work.token_ids.device)
    mask = torch.zeros_like(token_ids)
    for row, sequence in enumerate(work.token_ids.split(list(work.lengths))):
        token_ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return token_ids, mask


def attention_bias(bert: Any, mask: Tensor) -> Tensor | None:
    """What attention adds to its scores, [S, 1, L, L]; None where there is no padding.

    A mask of bool, as transformers makes it, would be turned into this one in every layer, and one
    whose rows do not begin at multiples of 8 would be copied.
    """
    if bool(mask.all()):
        return None
    num_sequences, length = mask.shape
    rows = torch.zeros(num_sequences, -(-length // 8) * 8, dtype=bert.dtype, device=mask.device)
    bias = rows[:, :length].masked_fill_(mask == 0, torch.finfo(bert.dtype).min)
    return bias[:, None, None, :].expand(-1, 1, length, -1)


def _embed(module: Any, token_ids: Tensor) -> Tensor:
    return module(input_ids=token_ids)


def _layer(module: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    return module(x, attention_mask=bias)


def _states(model: Any, token_ids: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    return lambda: model(input_ids=token_ids, attention_mask=mask).last_hidden_state


def _unpad(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """States [S, L, H] -> those of tokens, [T, H]."""
    return lambda states: states[mask.bool()]
