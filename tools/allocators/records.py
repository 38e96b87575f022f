"""The intermediates of a whole forward pass, every layer unrolled: how large and how long alive.

Operations are numbered as cpp/encoder/forward.cpp runs them, five a layer after the embedding:

              qkv    attention  output  up     down       qkv …
    states    ──────────────────────▶          ═══════════════   the next layer's
    qkv       ════════════════
    context          ═══════════════════
    attended                    ══════════════════════
    expanded                            ══════════════

A row is as wide as cpp/kernels/cpu/cpu_backend.cpp strides it, in float32, or on a GPU as
cpp/kernels/cuda/cuda_backend.cpp does, in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from allocator_shim import Batch, Record

FLOAT_BYTES = 4
HALF_BYTES = 2
KINDS = ("states", "qkv", "context", "attended", "expanded")  # the buffers of a layer


@dataclass(frozen=True)
class Model:
    num_layers: int
    hidden_size: int
    intermediate_size: int


MODELS = {
    "minilm": Model(6, 384, 1536),
    "bert-base": Model(12, 768, 3072),
    "bert-large": Model(24, 1024, 4096),
}


def row_bytes(columns: int) -> int:
    """Bytes from one row to the next: whole cache lines, but no multiple of 2 KiB."""
    whole_lines = (columns + 15) // 16 * 16
    return FLOAT_BYTES * (whole_lines + 16 if whole_lines % 512 == 0 else whole_lines)


def half_row_bytes(columns: int) -> int:
    """Bytes of a row in half precision, which is not padded in any of MODELS."""
    return HALF_BYTES * columns


def forward_pass(model: Model, row_bytes: Callable[[int], int] = row_bytes) -> list[Record]:
    """Records of all layers in the order of KINDS, then the last states and what is pooled."""

    def per_token(first_op: int, last_op: int, columns: int) -> Record:
        return Record(first_op, last_op, 0, row_bytes(columns), 0)

    hidden = model.hidden_size
    records: list[Record] = []
    written_by = 0  # the operation that writes the layer's input: the embedding, then each `down`
    for layer in range(model.num_layers):
        qkv, attention, output, up, down = range(1 + 5 * layer, 6 + 5 * layer)
        records += [
            per_token(written_by, output, hidden),
            per_token(qkv, attention, 3 * hidden),
            per_token(attention, output, hidden),
            per_token(output, down, hidden),
            per_token(up, down, model.intermediate_size),
        ]
        written_by = down
    pool = written_by + 1
    return [
        *records,
        per_token(written_by, pool, hidden),
        Record(pool, pool, 0, 0, row_bytes(hidden)),
    ]


def kinds(model: Model) -> list[str]:
    """What each record of `forward_pass` is."""
    return [*KINDS * model.num_layers, "states", "pooled"]


def num_operations(records: Iterable[Record]) -> int:
    return 1 + max(record.last_op for record in records)


def live_bytes(records: Sequence[Record], batch: Batch) -> list[int]:
    """Bytes alive at each operation; their maximum is what any plan needs at least."""
    live = [0] * num_operations(records)
    for record in records:
        for operation in range(record.first_op, record.last_op + 1):
            live[operation] += record.bytes(batch)
    return live


def lower_bound(records: Sequence[Record], batch: Batch) -> int:
    """The most bytes alive at any operation."""
    return max(live_bytes(records, batch))
