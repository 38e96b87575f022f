"""The structs and functions of shim.cpp, which are those of cpp/kernels/cuda, for ctypes.

The library is the one that the environment variable VLT_KERNEL_SHIM names, otherwise the one in the
checkout's build folder.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_bool, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

BUILT = Path(__file__).resolve().parents[2] / "build" / "libvlt_kernel_shim.so"

GEMM_KINDS = {"hopper": 0, "mma": 1, "fp32": 2}
ATTENTION_KINDS = {"short_mma": 0, "long_mma": 1, "long_hopper": 2, "fp32": 3, "relative": 4}
COPY_KINDS = {"gather_chosen": 0, "unfold": 1, "pool_single": 2}
# In the order of cpp/kernels/enums.h.
ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "log_relu")
POOLING_MODES = ("cls", "lasttoken", "max", "mean", "mean_sqrt_len", "weightedmean")
# In the order of InputError::Kind.
ERROR_KINDS = (
    "none",
    "starts_not_ascending",
    "first_start_not_zero",
    "last_start_not_tokens",
    "too_long",
    "token_id",
    "token_type",
    "pooling_start",
    "chosen_token",
)
MMA_QUERY_TILE = 64
HOPPER_QUERY_TILES = (128, 192)
SHORT_LIMITS = (16, 32, 64, 128)  # the longest sequence of each short class


class DeviceTraits(ctypes.Structure):
    index: int
    num_multiprocessors: int
    capability: int
    max_shared_bytes: int
    overlap: bool
    hopper_kernels: bool

    _fields_ = [
        ("index", c_int),
        ("num_multiprocessors", c_int),
        ("capability", c_int),
        ("max_shared_bytes", c_int),
        ("overlap", c_bool),
        ("hopper_kernels", c_bool),
    ]


class HopperTile(ctypes.Structure):
    rows: int
    cols: int
    cluster: int

    _fields_ = [("rows", c_int), ("cols", c_int), ("cluster", c_int)]


class BatchHeader(ctypes.Structure):
    _fields_ = [
        ("num_tokens", c_int32),
        ("num_sequences", c_int32),
        ("num_chosen", c_int32),
        ("token_ids", c_void_p),
        ("token_types", c_void_p),
        ("sequence_starts", c_void_p),
        ("pooling_starts", c_void_p),
        ("chosen_tokens", c_void_p),
        ("hidden", c_void_p),
        ("embedding", c_void_p),
    ]


class AttentionItem(ctypes.Structure):
    _fields_ = [
        ("first_row", c_int32),
        ("length", c_int32),
        ("query_begin", c_int32),
        ("query_end", c_int32),
    ]


class BatchState(ctypes.Structure):
    _fields_ = [
        ("num_tokens", c_int32),
        ("num_sequences", c_int32),
        ("num_chosen", c_int32),
        ("short_begin", c_int32 * (len(SHORT_LIMITS) + 1)),
        ("num_long_items", c_int32),
    ]


class InputError(ctypes.Structure):
    _fields_ = [("kind", c_int32), ("index", c_int32), ("value", c_int32)]


class GemmArguments(ctypes.Structure):
    _fields_ = [
        ("dtype", c_int32),
        ("in", c_void_p),
        ("in_stride", c_int64),
        ("weight", c_void_p),
        ("weight_stride", c_int64),
        ("bias", c_void_p),
        ("residual", c_void_p),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("out_dtype", c_int32),
        ("activation", c_int32),
        ("max_rows", c_int32),
        ("num_rows", c_void_p),
        ("outputs", c_int32),
        ("inputs", c_int32),
    ]


class RelativeTensors(ctypes.Structure):
    _fields_ = [
        ("num_heads", c_int32),
        ("head_size", c_int32),
        ("num_distances", c_int64),
        ("bias", c_void_p),
        ("num_rows", c_int64),
        ("row", c_void_p),
        ("key_rows", c_void_p),
        ("query_rows", c_void_p),
    ]


class RelativeWeights(ctypes.Structure):
    _fields_ = [
        ("num_distances", c_int64),
        ("num_rows", c_int64),
        ("bias", c_void_p),
        ("row", c_void_p),
        ("key_rows", c_void_p),
        ("query_rows", c_void_p),
    ]


class AttentionArguments(ctypes.Structure):
    _fields_ = [
        ("dtype", c_int32),
        ("state", c_void_p),
        ("short_items", c_void_p),
        ("long_items", c_void_p),
        ("qkv", c_void_p),
        ("qkv_stride", c_int64),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("num_heads", c_int32),
        ("head_size", c_int32),
        ("scale", c_float),
        ("relative", RelativeWeights),
        ("max_rows", c_int32),
        ("max_sequences", c_int32),
        ("behind_short", c_bool),
        ("plan_is_settled", c_bool),
    ]


class PlanArguments(ctypes.Structure):
    _fields_ = [
        ("header", c_void_p),
        ("state", c_void_p),
        ("short_items", c_void_p),
        ("long_items", c_void_p),
        ("max_tokens", c_int32),
        ("max_sequences", c_int32),
        ("max_chosen", c_int32),
        ("max_length", c_int32),
        ("query_tile", c_int32),
        ("error", c_void_p),
    ]


class Norm(ctypes.Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("epsilon", c_float)]


class EmbedArguments(ctypes.Structure):
    _fields_ = [
        ("header", c_void_p),
        ("state", c_void_p),
        ("dtype", c_int32),
        ("word", c_void_p),
        ("position", c_void_p),
        ("token_type", c_void_p),
        ("vocab_size", c_int32),
        ("num_token_types", c_int32),
        ("position_offset", c_int32),
        ("norm", Norm),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("cols", c_int32),
        ("max_rows", c_int32),
        ("error", c_void_p),
    ]


class LayerNormArguments(ctypes.Structure):
    _fields_ = [
        ("num_rows", c_void_p),
        ("dtype", c_int32),
        ("in", c_void_p),
        ("in_stride", c_int64),
        ("norm", Norm),
        ("out_dtype", c_int32),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("indirect_out", c_void_p),
        ("cols", c_int32),
        ("max_rows", c_int32),
    ]


class AddLayerNormArguments(ctypes.Structure):
    _fields_ = [
        ("num_rows", c_void_p),
        ("dtype", c_int32),
        ("in", c_void_p),
        ("in_stride", c_int64),
        ("residual", c_void_p),
        ("residual_stride", c_int64),
        ("norm", Norm),
        ("out_dtype", c_int32),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("indirect_out", c_void_p),
        ("cols", c_int32),
        ("max_rows", c_int32),
    ]


class CopyArguments(ctypes.Structure):
    _fields_ = [
        ("header", c_void_p),
        ("state", c_void_p),
        ("dtype", c_int32),
        ("in", c_void_p),
        ("in_stride", c_int64),
        ("indirect_in", c_void_p),
        ("out_dtype", c_int32),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("indirect_out", c_void_p),
        ("cols", c_int32),
        ("width", c_int32),
        ("max_rows", c_int32),
    ]


class PoolArguments(ctypes.Structure):
    _fields_ = [
        ("header", c_void_p),
        ("state", c_void_p),
        ("dtype", c_int32),
        ("states", c_void_p),
        ("states_stride", c_int64),
        ("indirect_states", c_void_p),
        ("modes", c_int32 * len(POOLING_MODES)),
        ("num_modes", c_int32),
        ("out_dtype", c_int32),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("indirect_out", c_void_p),
        ("cols", c_int32),
        ("max_sequences", c_int32),
    ]


class NormalizeArguments(ctypes.Structure):
    _fields_ = [
        ("state", c_void_p),
        ("dtype", c_int32),
        ("in", c_void_p),
        ("in_stride", c_int64),
        ("out_dtype", c_int32),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("indirect_in", c_void_p),
        ("indirect_out", c_void_p),
        ("divide", c_bool),
        ("cols", c_int32),
        ("max_sequences", c_int32),
    ]


_STRUCTS: tuple[type[ctypes.Structure], ...] = (
    DeviceTraits,
    HopperTile,
    BatchHeader,
    AttentionItem,
    BatchState,
    InputError,
    GemmArguments,
    RelativeTensors,
    RelativeWeights,
    AttentionArguments,
    PlanArguments,
    Norm,
    EmbedArguments,
    LayerNormArguments,
    AddLayerNormArguments,
    CopyArguments,
    PoolArguments,
    NormalizeArguments,
)

_TRAITS = POINTER(DeviceTraits)
# name -> (result, arguments)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "shim_last_error": (ctypes.c_char_p, []),
    "shim_layout": (ctypes.c_char_p, []),
    "shim_device": (c_int, [c_int, _TRAITS]),
    "shim_plan": (c_int, [POINTER(PlanArguments), _TRAITS, c_void_p]),
    "shim_embed_layernorm": (c_int, [POINTER(EmbedArguments), _TRAITS, c_void_p]),
    "shim_layernorm": (c_int, [POINTER(LayerNormArguments), _TRAITS, c_void_p]),
    "shim_add_layernorm": (c_int, [POINTER(AddLayerNormArguments), _TRAITS, c_void_p]),
    "shim_copy_rows": (c_int, [c_int, POINTER(CopyArguments), _TRAITS, c_void_p]),
    "shim_pool": (c_int, [POINTER(PoolArguments), _TRAITS, c_void_p]),
    "shim_normalize": (c_int, [POINTER(NormalizeArguments), _TRAITS, c_void_p]),
    "shim_layernorm_by_rows": (c_int, [POINTER(LayerNormArguments), _TRAITS, c_void_p, c_int]),
    "shim_gemm": (c_int, [c_int, POINTER(GemmArguments), _TRAITS, c_void_p, c_int]),
    "shim_gemm_norm": (
        c_int,
        [POINTER(GemmArguments), POINTER(LayerNormArguments), _TRAITS, c_void_p],
    ),
    "shim_attention": (c_int, [c_int, POINTER(AttentionArguments), _TRAITS, c_void_p]),
    "shim_prepare_relative": (
        c_int,
        [POINTER(RelativeTensors), c_int, _TRAITS, POINTER(RelativeWeights), POINTER(c_void_p)],
    ),
    "shim_free_weights": (None, [c_void_p]),
    "shim_hopper_attention_fits": (c_int, [c_int, c_int64, c_int]),
    "shim_hopper_query_tile": (c_int, [c_int]),
    "shim_num_hopper_tiles": (c_int, []),
    "shim_hopper_tile": (None, [c_int, POINTER(HopperTile)]),
    "shim_choose_hopper_tile": (c_int, [c_int64, c_int64, c_int64, c_int, c_int]),
}


def shim_path() -> Path:
    """Where the library should be; it need not exist."""
    return Path(os.environ.get("VLT_KERNEL_SHIM") or BUILT)


@cache
def load() -> ctypes.CDLL:
    """The library, whose structs are laid out as they are here."""
    library = ctypes.CDLL(str(shim_path()))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    theirs = set(library.shim_layout().decode().splitlines())
    ours = {line for struct in _STRUCTS for line in _layout(struct)}
    if theirs != ours:
        raise RuntimeError(
            "native.py and the headers of cpp/kernels/cuda disagree (struct.field offset bytes); "
            f"only in native.py: {sorted(ours - theirs)}, only in the library: "
            f"{sorted(theirs - ours)}"
        )
    return library


def call(name: str, *arguments: Any) -> None:
    """Call a function that may fail; RuntimeError with its message where it does."""
    library = load()
    if getattr(library, name)(*arguments) != 0:
        raise RuntimeError(f"{name}: {library.shim_last_error().decode()}")


def _layout(struct: type[ctypes.Structure]) -> list[str]:
    lines = []
    for name, *_ in struct._fields_:
        field = getattr(struct, name)
        lines.append(f"{struct.__name__}.{name} {field.offset} {field.size}")
    return lines
