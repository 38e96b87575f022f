"""Each GPU kernel as a Python function over torch tensors.

Matrices are two-dimensional tensors whose rows are contiguous; their strides are passed on. Work is
queued on torch's current stream: nothing here waits for it or allocates device memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass
from functools import cache

import torch
from gpu import native
from gpu.batches import Batch, Plan
from gpu.native import (
    ACTIVATIONS,
    ATTENTION_KINDS,
    COPY_KINDS,
    ERROR_KINDS,
    GEMM_KINDS,
    POOLING_MODES,
)

DEVICE = torch.device("cuda")
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # as in cpp/kernels/enums.h


@cache
def device_traits() -> native.DeviceTraits:
    """What the kernels are told of the current device."""
    traits = native.DeviceTraits()
    native.call("shim_device", torch.cuda.current_device(), byref(traits))
    return traits


def traits_with(**changes: int | bool) -> native.DeviceTraits:
    """A copy of the device's traits with some of them changed."""
    traits = native.DeviceTraits.from_buffer_copy(device_traits())
    for name, value in changes.items():
        setattr(traits, name, value)
    return traits


def gemm(
    kind: str,
    a: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
    *,
    activation: str = "identity",
    residual: torch.Tensor | None = None,
    num_rows: torch.Tensor | None = None,
    tile: int = -1,
    traits: native.DeviceTraits | None = None,
) -> None:
    """out = activation(a · weightᵀ + bias) + residual.

    Parameters
    ----------
    kind : {"hopper", "mma", "fp32"}
    a : tensor [rows, K]
    weight : tensor [N, K]
    bias : float32 tensor
        [N], followed by zeros to a multiple of 256; `padded_bias` makes one.
    out : tensor [rows, N]
    residual : tensor [rows, N], optional
        With the stride of `out`; may be `out`.
    num_rows : int32 tensor [1], optional
        How many rows there are, at most `rows`; by default all.
    tile : int
        For "hopper": -1 for the one that its chooser picks.
    """
    arguments = _product(
        a, weight, bias, out, activation=activation, residual=residual, num_rows=num_rows
    )
    _launch("shim_gemm", GEMM_KINDS[kind], byref(arguments), traits=traits, last=(tile,))


def gemm_norm(
    a: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor,
    norm: Norm,
    out: torch.Tensor,
    *,
    num_rows: torch.Tensor,
) -> None:
    """out = norm(a · weightᵀ + bias + residual), by the kernel for few rows; names as in gemm()."""
    product = _product(a, weight, bias, residual, residual=residual, num_rows=num_rows)
    arguments = native.LayerNormArguments(
        num_rows=num_rows.data_ptr(),
        dtype=DTYPES[a.dtype],
        norm=norm.struct(),
        out_dtype=DTYPES[out.dtype],
        out=out.data_ptr(),
        out_stride=out.stride(0),
        cols=out.shape[1],
        max_rows=a.shape[0],
    )
    _launch("shim_gemm_norm", byref(product), byref(arguments), traits=None)


def _product(
    a: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
    *,
    activation: str = "identity",
    residual: torch.Tensor | None,
    num_rows: torch.Tensor | None,
) -> native.GemmArguments:
    assert residual is None or residual.stride(0) == out.stride(0)
    return native.GemmArguments(
        dtype=DTYPES[a.dtype],
        in_stride=a.stride(0),
        weight=weight.data_ptr(),
        weight_stride=weight.stride(0),
        bias=bias.data_ptr(),
        residual=_address(residual),
        out=out.data_ptr(),
        out_stride=out.stride(0),
        out_dtype=DTYPES[out.dtype],
        activation=ACTIVATIONS.index(activation),
        max_rows=a.shape[0],
        num_rows=_address(num_rows),
        outputs=weight.shape[0],
        inputs=weight.shape[1],
        **{"in": a.data_ptr()},
    )


def padded_bias(bias: torch.Tensor) -> torch.Tensor:
    """A bias as the products want it: float32 and with zeros up to a multiple of 256."""
    padded = torch.zeros(-(-len(bias) // 256) * 256, dtype=torch.float32, device=bias.device)
    padded[: len(bias)] = bias
    return padded


class PreparedRelative:
    """Weights of relative positions in device memory, as a model would have prepared them.

    Parameters
    ----------
    num_heads, head_size : int
    num_distances : int
        2·P - 1, where P is the longest sequence.
    dtype : torch.dtype
        Of the rows on the device.
    bias : float32 tensor [A, 2·P - 1] on the host, optional
    row : int32 tensor [2·P - 1] on the host, optional
    key_rows, query_rows : float32 tensors [R, A·D] on the host, optional
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        num_distances: int,
        dtype: torch.dtype,
        *,
        bias: torch.Tensor | None = None,
        row: torch.Tensor | None = None,
        key_rows: torch.Tensor | None = None,
        query_rows: torch.Tensor | None = None,
    ) -> None:
        given = [x for x in (bias, row, key_rows, query_rows) if x is not None]
        assert all(x.is_contiguous() and x.device.type == "cpu" for x in given)
        tables = [x for x in (key_rows, query_rows) if x is not None]
        tensors = native.RelativeTensors(
            num_heads=num_heads,
            head_size=head_size,
            num_distances=num_distances,
            bias=_address(bias),
            num_rows=len(tables[0]) if tables else 0,
            row=_address(row),
            key_rows=_address(key_rows),
            query_rows=_address(query_rows),
        )
        self.weights, self._memory = native.RelativeWeights(), ctypes.c_void_p()
        native.call(
            "shim_prepare_relative",
            byref(tensors),
            DTYPES[dtype],
            byref(device_traits()),
            byref(self.weights),
            byref(self._memory),
        )

    def __del__(self) -> None:
        native.load().shim_free_weights(self._memory)


def attention(
    kind: str,
    plan: Plan,
    qkv: torch.Tensor,
    out: torch.Tensor,
    *,
    num_heads: int,
    head_size: int,
    scale: float,
    relative: PreparedRelative | None = None,
    behind_short: bool = False,
    plan_is_settled: bool = False,
    traits: native.DeviceTraits | None = None,
) -> None:
    """out [rows, A·D] = attention of qkv [rows, 3·A·D] over the items of a plan.

    Kinds: "short_mma", "long_mma", "long_hopper", and "fp32" and "relative", which do short and
    long items.
    `behind_short`: "long_hopper" follows "short_mma" at once, and may run beside it.
    `plan_is_settled`: "short_mma" may read the plan before the kernel in front of it is done.
    """
    arguments = native.AttentionArguments(
        dtype=DTYPES[qkv.dtype],
        state=plan.state.data_ptr(),
        short_items=plan.short_items.data_ptr(),
        long_items=plan.long_items.data_ptr(),
        qkv=qkv.data_ptr(),
        qkv_stride=qkv.stride(0),
        out=out.data_ptr(),
        out_stride=out.stride(0),
        num_heads=num_heads,
        head_size=head_size,
        scale=scale,
        relative=native.RelativeWeights() if relative is None else relative.weights,
        max_rows=qkv.shape[0],
        max_sequences=plan.max_sequences,
        behind_short=behind_short,
        plan_is_settled=plan_is_settled,
    )
    _launch("shim_attention", ATTENTION_KINDS[kind], byref(arguments), traits=traits)


def hopper_query_tile(head_size: int) -> int:
    """Queries of a long item, for the Hopper kernel."""
    return int(native.load().shim_hopper_query_tile(head_size))


def hopper_attention_fits(head_size: int, qkv_stride: int, num_heads: int) -> bool:
    return bool(native.load().shim_hopper_attention_fits(head_size, qkv_stride, num_heads))


@dataclass
class ErrorSlot:
    """An InputError in pinned host memory, as a session holds one."""

    values: torch.Tensor  # [3] int32

    @classmethod
    def empty(cls) -> ErrorSlot:
        return cls(torch.zeros(3, dtype=torch.int32, pin_memory=True))

    def read(self) -> tuple[str, int, int]:
        """Kind, index and value, once the device has finished."""
        torch.cuda.synchronize()
        kind, index, value = self.values.tolist()
        return ERROR_KINDS[kind], index, value


def plan_batch(
    batch: Batch,
    plan: Plan,
    error: ErrorSlot,
    *,
    max_tokens: int,
    max_sequences: int,
    max_chosen: int = 0,
    max_length: int,
    query_tile: int,
    traits: native.DeviceTraits | None = None,
) -> None:
    """Check the batch and write its plan."""
    arguments = native.PlanArguments(
        header=batch.header.data_ptr(),
        state=plan.state.data_ptr(),
        short_items=plan.short_items.data_ptr(),
        long_items=plan.long_items.data_ptr(),
        max_tokens=max_tokens,
        max_sequences=max_sequences,
        max_chosen=max_chosen,
        max_length=max_length,
        query_tile=query_tile,
        error=error.values.data_ptr(),
    )
    _launch("shim_plan", byref(arguments), traits=traits)


@dataclass(frozen=True)
class Norm:
    """Weight and bias [H] in float32."""

    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    def struct(self) -> native.Norm:
        return native.Norm(self.weight.data_ptr(), self.bias.data_ptr(), self.epsilon)


def embed_layernorm(
    batch: Batch,
    plan: Plan,
    word: torch.Tensor,
    position: torch.Tensor | None,
    token_type: torch.Tensor | None,
    norm: Norm,
    out: torch.Tensor,
    error: ErrorSlot,
    *,
    position_offset: int = 0,
    traits: native.DeviceTraits | None = None,
) -> None:
    """out [rows, H] = norm(word[id] + token_type[type] + position[index + offset])."""
    tables = [table for table in (word, position, token_type) if table is not None]
    assert all(table.is_contiguous() for table in tables)
    arguments = native.EmbedArguments(
        header=batch.header.data_ptr(),
        state=plan.state.data_ptr(),
        dtype=DTYPES[word.dtype],
        word=word.data_ptr(),
        position=_address(position),
        token_type=_address(token_type),
        vocab_size=len(word),
        num_token_types=0 if token_type is None else len(token_type),
        position_offset=position_offset,
        norm=norm.struct(),
        out=out.data_ptr(),
        out_stride=out.stride(0),
        cols=word.shape[1],
        max_rows=out.shape[0],
        error=error.values.data_ptr(),
    )
    _launch("shim_embed_layernorm", byref(arguments), traits=traits)


def layernorm(
    plan: Plan,
    x: torch.Tensor,
    norm: Norm,
    out: torch.Tensor,
    *,
    indirect: torch.Tensor | None = None,
    lane_rows: int = 0,
    traits: native.DeviceTraits | None = None,
) -> None:
    """Rows of x [rows, H] normalised into `out`, or into the address in `indirect`, see `pointer`.

    Where `indirect` is given, `out` only says the dtype. `lane_rows`: 1, 2 or 4 rows that a lane
    takes at once, for benchmarks; by default the kernel is the one that the library uses.
    """
    arguments = native.LayerNormArguments(
        num_rows=plan.state.data_ptr(),  # a BatchState begins with its number of tokens
        dtype=DTYPES[x.dtype],
        in_stride=x.stride(0),
        norm=norm.struct(),
        out_dtype=DTYPES[out.dtype],
        out=None if indirect is not None else out.data_ptr(),
        out_stride=out.stride(0),
        indirect_out=_address(indirect),
        cols=x.shape[1],
        max_rows=x.shape[0],
        **{"in": x.data_ptr()},
    )
    if lane_rows > 0:
        _launch("shim_layernorm_by_rows", byref(arguments), traits=traits, last=(lane_rows,))
        return
    _launch("shim_layernorm", byref(arguments), traits=traits)


def add_layernorm(
    num_rows: torch.Tensor,
    x: torch.Tensor,
    residual: torch.Tensor | None,
    norm: Norm,
    out: torch.Tensor,
    *,
    indirect: torch.Tensor | None = None,
    traits: native.DeviceTraits | None = None,
) -> None:
    """num_rows (int32 [1]) rows of x + residual normalised; `indirect` as in layernorm."""
    arguments = native.AddLayerNormArguments(
        num_rows=num_rows.data_ptr(),
        dtype=DTYPES[x.dtype],
        in_stride=x.stride(0),
        residual=_address(residual),
        residual_stride=0 if residual is None else residual.stride(0),
        norm=norm.struct(),
        out_dtype=DTYPES[out.dtype],
        out=None if indirect is not None else out.data_ptr(),
        out_stride=out.stride(0),
        indirect_out=_address(indirect),
        cols=x.shape[1],
        max_rows=x.shape[0],
        **{"in": x.data_ptr()},
    )
    _launch("shim_add_layernorm", byref(arguments), traits=traits)


def copy_rows(
    kind: str,
    batch: Batch,
    plan: Plan,
    x: torch.Tensor,
    out: torch.Tensor,
    *,
    width: int = 1,
    indirect_in: torch.Tensor | None = None,
    indirect_out: torch.Tensor | None = None,
    traits: native.DeviceTraits | None = None,
) -> None:
    """Kinds: "gather_chosen"; "unfold", out [T, width · H]; "pool_single", of rows of sequences."""
    arguments = native.CopyArguments(
        header=batch.header.data_ptr(),
        state=plan.state.data_ptr(),
        dtype=DTYPES[x.dtype],
        in_stride=x.stride(0),
        indirect_in=_address(indirect_in),
        out_dtype=DTYPES[out.dtype],
        out=None if indirect_out is not None else out.data_ptr(),
        out_stride=out.stride(0),
        indirect_out=_address(indirect_out),
        cols=x.shape[1],
        width=width,
        max_rows=out.shape[0],
        **{"in": None if indirect_in is not None else x.data_ptr()},
    )
    _launch("shim_copy_rows", COPY_KINDS[kind], byref(arguments), traits=traits)


def pool(
    batch: Batch,
    plan: Plan,
    states: torch.Tensor,
    modes: Sequence[str],
    out: torch.Tensor,
    *,
    indirect_states: torch.Tensor | None = None,
    indirect_out: torch.Tensor | None = None,
    traits: native.DeviceTraits | None = None,
) -> None:
    """out [sequences, H · modes]: each sequence's rows of states [rows, H] reduced by each mode."""
    arguments = native.PoolArguments(
        header=batch.header.data_ptr(),
        state=plan.state.data_ptr(),
        dtype=DTYPES[states.dtype],
        states=None if indirect_states is not None else states.data_ptr(),
        states_stride=states.stride(0),
        indirect_states=_address(indirect_states),
        num_modes=len(modes),
        out_dtype=DTYPES[out.dtype],
        out=None if indirect_out is not None else out.data_ptr(),
        out_stride=out.stride(0),
        indirect_out=_address(indirect_out),
        cols=states.shape[1],
        max_sequences=plan.max_sequences,
    )
    arguments.modes[: len(modes)] = [POOLING_MODES.index(mode) for mode in modes]
    _launch("shim_pool", byref(arguments), traits=traits)


def normalize(
    plan: Plan,
    x: torch.Tensor,
    out: torch.Tensor,
    *,
    divide: bool = True,
    indirect_in: torch.Tensor | None = None,
    indirect_out: torch.Tensor | None = None,
    traits: native.DeviceTraits | None = None,
) -> None:
    """Rows of x [sequences, E] divided by max(L2 norm, 1e-12), or only converted."""
    arguments = native.NormalizeArguments(
        state=plan.state.data_ptr(),
        dtype=DTYPES[x.dtype],
        in_stride=x.stride(0),
        out_dtype=DTYPES[out.dtype],
        out=None if indirect_out is not None else out.data_ptr(),
        out_stride=out.stride(0),
        indirect_in=_address(indirect_in),
        indirect_out=_address(indirect_out),
        divide=divide,
        cols=x.shape[1],
        max_sequences=plan.max_sequences,
        **{"in": None if indirect_in is not None else x.data_ptr()},
    )
    _launch("shim_normalize", byref(arguments), traits=traits)


def pointer(values: torch.Tensor) -> torch.Tensor:
    """The address of a tensor in device memory, for an indirect argument."""
    return torch.tensor([values.data_ptr()], dtype=torch.int64, device=values.device)


def num_hopper_tiles() -> int:
    return int(native.load().shim_num_hopper_tiles())


def hopper_tile(index: int) -> str:
    """A tile in words: rows×cols, and how many of them share their weights."""
    tile = native.HopperTile()
    native.load().shim_hopper_tile(index, byref(tile))
    shared = f"x{tile.cluster}" if tile.cluster > 1 else ""
    return f"{tile.rows}x{tile.cols}{shared}"


def choose_hopper_tile(
    rows: int, outputs: int, inputs: int, activates: bool, num_multiprocessors: int
) -> int:
    return int(
        native.load().shim_choose_hopper_tile(rows, outputs, inputs, activates, num_multiprocessors)
    )


def _address(values: torch.Tensor | None) -> int | None:
    return None if values is None else int(values.data_ptr())


def _launch(
    name: str,
    *arguments: object,
    traits: native.DeviceTraits | None,
    last: tuple[int, ...] = (),
) -> None:
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    native.call(name, *arguments, byref(traits or device_traits()), stream, *last)
