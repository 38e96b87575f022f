"""The floor: a forward pass's matrix products on all tokens by cuBLAS, in one CUDA graph.

No bias, norm, activation or attention; QKV merged. Who is faster has better products than cuBLAS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it

from peers.cuda import Ready, Tensor, Work
from peers.cuda.graphs import captured
from peers.cuda.packed_bert import weights_of


def make(work: Work) -> Ready:
    """The products of all layers on random activations."""
    config, options = work.bert.config, {"dtype": work.bert.dtype, "device": work.token_ids.device}
    hidden = torch.randn(len(work.token_ids), config.hidden_size, **options)
    expanded = torch.randn(len(work.token_ids), config.intermediate_size, **options)
    layers = weights_of(work.bert).layers

    def run() -> Tensor:
        for layer in layers:
            F.linear(hidden, layer.qkv.weight)
            F.linear(hidden, layer.output.weight)
            F.linear(hidden, layer.up.weight)
            result = F.linear(expanded, layer.down.weight)
        return result

    return Ready(captured(run), packed=None)
