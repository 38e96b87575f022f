"""What a user of PyTorch would run on a GPU, each behind the same small interface.

A peer is a function of a module here::

    make(work: Work) -> Ready

It prepares everything that does not depend on the values of the token ids, so that `Ready.run` does
what is repeated for each batch: from ids on the device to the last layer's states on the device.
Modules import torch at their top, so they are imported only by who has it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

Tensor: TypeAlias = Any  # torch is not there where only the names of peers are needed


@dataclass(frozen=True)
class Work:
    """A model and S sequences of T tokens for it, on the same device."""

    bert: Any  # transformers.BertModel, in evaluation mode, without a pooler
    token_ids: Tensor  # [T] int32
    lengths: tuple[int, ...]  # [S]

    @property
    def longest(self) -> int:
        return max(self.lengths)


@dataclass(frozen=True)
class Ready:
    """A peer that has compiled, captured and warmed up whatever it does."""

    run: Callable[[], Tensor]  # queues one forward pass on the current stream
    # What `run` returned -> the states [T, H] of all tokens. None: it computes no states.
    packed: Callable[[Tensor], Tensor] | None


Make: TypeAlias = Callable[[Work], Ready]


class Peer(NamedTuple):
    """Where a peer is and what it does, in words."""

    module: str  # in this package
    function: str
    compiles: bool  # takes seconds or minutes to make, unless it finds its results in a cache
    description: str


PEERS: dict[str, Peer] = {
    "packed-cg": Peer(
        "packed",
        "make_graph",
        True,
        "no padding: merged QKV and varlen_attn, compiled layer by layer, one CUDA graph",
    ),
    "packed-whole": Peer(
        "packed",
        "make_whole",
        True,
        'the same as a whole under torch.compile(mode="reduce-overhead")',
    ),
    "packed": Peer("packed", "make_eager", False, "the same in eager mode"),
    "padded-compile": Peer(
        "padded",
        "make_graph",
        True,
        "transformers, SDPA, one padded batch, compiled layer by layer, one CUDA graph",
    ),
    "padded-whole": Peer(
        "padded",
        "make_whole",
        True,
        'the same as a whole under torch.compile(mode="reduce-overhead")',
    ),
    "padded": Peer("padded", "make_eager", False, "the same in eager mode"),
    "gemm": Peer("gemm", "make", False, "the forward pass's matrix products only, one CUDA graph"),
}
FLOOR = "gemm"  # no peer but what any forward pass needs at least


def load(name: str) -> Make:
    """The function that makes the peer of this name; ImportError where torch is missing."""
    module = importlib.import_module(f"peers.cuda.{PEERS[name].module}")
    return cast(Make, getattr(module, PEERS[name].function))
