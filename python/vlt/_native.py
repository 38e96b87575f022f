"""The bridge to libvlt: with _native_scheduling.py the only module that calls it by ctypes.

Every function and struct of vlt.h is declared below under its own name and in its own order.
Below them, each is wrapped as a Python function that takes and returns Python values and numpy
arrays, and raises what the status says. `handles.py` adds ownership and threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import partial
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from . import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ABI_VERSION = 1

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

OK = 0
DEVICES = {"auto": 0, "cpu": 1, "cuda": 2}
DTYPES = {"auto": 0, "float32": 1, "float16": 2, "bfloat16": 3, "int8": 4}
OUTPUTS = {
    "hidden": 1,
    "embedding": 2,
    "logits": 3,
    "token_logits": 4,
    "vocabulary": 5,
    "sparse": 6,
}
MEMORY = {"host": 0, "device": 1}
LOG_LEVELS = {"warning": 1, "info": 2, "debug": 3}
POLICIES = {"latency": 0, "fifo": 1, "one": 2}

EXCEPTIONS: dict[int, type[errors.VltError]] = {
    1: errors.InvalidArgumentError,
    2: errors.OutOfMemoryError,
    3: errors.FileError,
    4: errors.UnsupportedError,
    5: errors.Error,
    6: errors.Error,
    7: errors.CancelledError,
}


class VltModelOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device_type", c_int32),
        ("device_index", c_int32),
        ("compute_type", c_int32),
    ]


class VltModelInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device_type", c_int32),
        ("compute_type", c_int32),
        ("num_layers", c_int32),
        ("hidden_size", c_int32),
        ("num_heads", c_int32),
        ("head_size", c_int32),
        ("intermediate_size", c_int32),
        ("vocab_size", c_int32),
        ("num_token_types", c_int32),
        ("max_length", c_int32),
        ("embedding_size", c_int32),
        ("weight_bytes", c_uint64),
        ("kernels", c_char_p),
        ("device_index", c_int32),
        ("num_labels", c_int32),
        ("num_token_labels", c_int32),
        ("vocabulary_outputs", c_int32),
        ("sparse_size", c_int32),
    ]


class VltAllocator(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("allocate", CFUNCTYPE(c_void_p, c_void_p, c_uint64, c_uint64)),
        ("release", CFUNCTYPE(None, c_void_p, c_void_p, c_uint64)),
        ("context", c_void_p),
    ]


class VltSessionOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("num_threads", c_int32),
        ("workspace_limit", c_uint64),
        ("profile", c_int32),
        ("allocator", POINTER(VltAllocator)),
        ("disable_graphs", c_int32),
    ]


class VltMemoryStats(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("planned_peak_bytes", c_uint64),
        ("held_bytes", c_uint64),
        ("peak_held_bytes", c_uint64),
        ("system_allocations", c_uint64),
        ("releases", c_uint64),
        ("runs", c_uint64),
        ("parts", c_uint64),
        ("planning_seconds", c_double),
        ("graphs", c_uint64),
    ]


class VltProfileEntry(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("calls", c_uint64),
        ("seconds", c_double),
        ("flops", c_double),
    ]


class VltPackedBatch(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("num_sequences", c_int32),
        ("num_tokens", c_int64),
        ("token_ids", POINTER(c_int32)),
        ("sequence_starts", POINTER(c_int32)),
        ("token_types", POINTER(c_int32)),
        ("pooling_starts", POINTER(c_int32)),
        ("memory", c_int32),
        ("stream", c_void_p),
        ("num_chosen", c_int32),
        ("chosen_tokens", POINTER(c_int32)),
    ]


class VltOutput(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_int32),
        ("dtype", c_int32),
        ("data", c_void_p),
        ("bytes", c_uint64),
        ("memory", c_int32),
    ]


class VltCostModel(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("base", c_double),
        ("per_token", c_double),
        ("per_square", c_double),
    ]


class VltCostPoint(ctypes.Structure):
    _fields_ = [
        ("num_tokens", c_double),
        ("squares", c_double),
        ("seconds", c_double),
    ]


class VltPaddedCosts(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("num_lengths", c_int32),
        ("lengths", POINTER(c_int32)),
        ("num_batch_sizes", c_int32),
        ("batch_sizes", POINTER(c_int32)),
        ("seconds", POINTER(c_double)),
    ]


class VltSchedulerOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("policy", c_int32),
        ("cost", POINTER(VltCostModel)),
        ("max_tokens", c_int64),
        ("max_requests", c_int32),
        ("max_wait", c_double),
        ("linger", c_double),
    ]


class VltRequest(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("priority", c_int32),
        ("request", c_int64),
        ("length", c_int64),
        ("arrival", c_double),
        ("time_left", c_double),
    ]


class VltSchedulerStats(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("num_waiting", c_int64),
        ("waiting_tokens", c_int64),
        ("waiting_seconds", c_double),
    ]


LogFunction = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)

# name -> (result, arguments). A handle is a c_void_p, an out_* handle a pointer to one.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "vlt_abi_version": (c_int32, []),
    "vlt_build_info": (c_char_p, []),
    "vlt_last_error": (c_char_p, []),
    "vlt_set_log": (c_int32, [LogFunction, c_void_p, c_int32]),
    "vlt_model_load": (c_int32, [c_char_p, POINTER(VltModelOptions), POINTER(c_void_p)]),
    "vlt_model_load_memory": (
        c_int32,
        [c_void_p, c_uint64, POINTER(VltModelOptions), POINTER(c_void_p)],
    ),
    "vlt_model_get_info": (c_int32, [c_void_p, POINTER(VltModelInfo)]),
    "vlt_model_metadata": (c_char_p, [c_void_p, c_char_p]),
    "vlt_model_metadata_key": (c_char_p, [c_void_p, c_int32]),
    "vlt_model_get_tokenizer": (c_int32, [c_void_p, POINTER(c_void_p), POINTER(c_uint64)]),
    "vlt_model_free": (None, [c_void_p]),
    "vlt_session_create": (c_int32, [c_void_p, POINTER(VltSessionOptions), POINTER(c_void_p)]),
    "vlt_session_free": (None, [c_void_p]),
    "vlt_session_cancel": (c_int32, [c_void_p]),
    "vlt_session_workspace_bytes": (
        c_int32,
        [c_void_p, c_int64, c_int32, c_int32, POINTER(c_uint64)],
    ),
    "vlt_session_reserve": (c_int32, [c_void_p, c_int64, c_int32, c_int32]),
    "vlt_session_get_memory_stats": (c_int32, [c_void_p, POINTER(VltMemoryStats)]),
    "vlt_session_get_profile": (c_int32, [c_void_p, POINTER(VltProfileEntry), POINTER(c_int32)]),
    "vlt_run": (c_int32, [c_void_p, POINTER(VltPackedBatch), POINTER(VltOutput), c_int32]),
    "vlt_session_synchronize": (c_int32, [c_void_p]),
    "vlt_device_allocate": (c_int32, [c_void_p, c_uint64, POINTER(c_void_p)]),
    "vlt_device_free": (None, [c_void_p, c_void_p]),
    "vlt_device_copy": (c_int32, [c_void_p, c_void_p, c_void_p, c_uint64]),
    "vlt_cost_model_fit": (c_int32, [POINTER(VltCostPoint), c_int32, POINTER(VltCostModel)]),
    "vlt_padded_seconds": (c_int32, [POINTER(VltPaddedCosts), c_int32, c_int32, POINTER(c_double)]),
    "vlt_plan_padded": (
        c_int32,
        [
            POINTER(VltPaddedCosts),
            POINTER(c_int32),
            c_int32,
            c_int32,
            POINTER(c_int32),
            POINTER(c_int32),
            POINTER(c_int32),
        ],
    ),
    "vlt_scheduler_create": (c_int32, [POINTER(VltSchedulerOptions), POINTER(c_void_p)]),
    "vlt_scheduler_free": (None, [c_void_p]),
    "vlt_scheduler_add": (c_int32, [c_void_p, POINTER(VltRequest)]),
    "vlt_scheduler_remove": (c_int32, [c_void_p, c_int64, POINTER(c_int32)]),
    "vlt_scheduler_next_batch": (
        c_int32,
        [c_void_p, c_double, POINTER(c_int64), POINTER(c_int32)],
    ),
    "vlt_scheduler_wake_at": (c_int32, [c_void_p, POINTER(c_double)]),
    "vlt_scheduler_get_stats": (c_int32, [c_void_p, POINTER(VltSchedulerStats)]),
}


def library_path() -> Path:
    """Where the library is looked for: `VLT_LIBRARY` if set, otherwise beside this module."""
    override = os.environ.get("VLT_LIBRARY")
    return Path(override) if override else Path(__file__).with_name("libvlt.so")


def load_library(path: Path) -> ctypes.CDLL:
    """Load the library at `path` and declare its functions.

    Raises
    ------
    ImportError
        It is missing, cannot be loaded, lacks a function, or has another ABI version.
    """
    if not path.exists():
        raise ImportError(
            f"vlt's library was looked for at {path} and is not there; install vlt from a wheel, "
            "or build the library and set the environment variable VLT_LIBRARY to its path"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"vlt's library at {path} cannot be loaded: {error}") from error
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(
                f"the library at {path} has no function {name}: it is not vlt's"
            ) from None
        function.restype, function.argtypes = result, arguments
    found = library.vlt_abi_version()
    if found != ABI_VERSION:
        raise ImportError(
            f"the library at {path} has ABI version {found}, but this Python package needs "
            f"{ABI_VERSION}; install both from the same wheel"
        )
    return library


LIBRARY = load_library(library_path())


def check(status: int) -> None:
    """Raise the exception of a failed call, with the library's own explanation.

    Must run on the thread that made the call: the explanation belongs to it.
    """
    if status != OK:
        message = LIBRARY.vlt_last_error().decode("utf-8", "replace")
        raise EXCEPTIONS.get(status, errors.Error)(message)


def sized(struct: type[ctypes.Structure], **fields: Any) -> Any:
    """A struct of vlt.h with its size set; every field not named is zero, the default."""
    return struct(struct_size=ctypes.sizeof(struct), **fields)


def packer_of(
    struct: type[ctypes.Structure],
) -> tuple[Callable[..., bytes], Callable[[bytes], Any]]:
    """What packs all fields of a struct but its size, in order, and what makes the struct of that.

    Addresses are numbers, 0 for NULL. Setting the fields of a ctypes object one by one takes
    several times as long, which a run of a small batch on a GPU would notice.
    """
    codes = {c_int32: "i", c_uint32: "I", c_int64: "q", c_uint64: "Q", c_void_p: "P"}
    codes[POINTER(c_int32)] = "P"
    fields = "".join(codes[kind] for _, kind, *_ in struct._fields_)
    layout = Struct(f"@{fields}0P")  # as C lays it out, up to a whole pointer
    return partial(layout.pack, layout.size), struct.from_buffer_copy


pack_batch, batch_from = packer_of(VltPackedBatch)
pack_output, output_from = packer_of(VltOutput)


def as_dict(struct: ctypes.Structure) -> dict[str, Any]:
    """The struct's fields but its size; texts decoded."""
    values = {name: getattr(struct, name) for name, *_ in struct._fields_ if name != "struct_size"}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def address_of(array: NDArray[Any] | None) -> int:
    """Of the first element, 0 for None; the caller keeps the array alive."""
    if array is None:
        return 0
    address: int = array.__array_interface__["data"][0]  # `.ctypes` takes three times as long
    return address


def int32_address(array: NDArray[np.int32] | None) -> int:
    """The same for what is read as `const int32_t*`."""
    if array is not None and not (array.dtype == np.int32 and array.flags.c_contiguous):
        raise TypeError(f"a contiguous int32 array is needed here, not {array.dtype}")
    return address_of(array)


def pointer_to(array: NDArray[np.int32]) -> Any:
    """`const int32_t*` to the first element, which keeps the array alive."""
    if array.dtype != np.int32 or not array.flags.c_contiguous:
        raise TypeError(f"a contiguous int32 array is needed here, not {array.dtype}")
    return array.ctypes.data_as(POINTER(c_int32))


# What the library calls: it must live as long as it is set. The lock keeps the two together.
_log_function: Any = LogFunction()
_log_lock = threading.Lock()


def set_log(function: Callable[[int, str], None] | None, level: str) -> None:
    """Have `function(level, message)` called with what the library says; None: silence."""
    global _log_function
    if function is None:
        new = LogFunction()
    else:
        new = LogFunction(lambda _, number, text: function(number, text.decode("utf-8", "replace")))
    with _log_lock:
        before, _log_function = _log_function, new
        check(LIBRARY.vlt_set_log(new, None, LOG_LEVELS[level]))
    del before  # alive until here: the library has let go of it


def build_info() -> dict[str, Any]:
    """What the library says about its build: version, compiler, instruction sets, GPUs."""
    info: dict[str, Any] = json.loads(LIBRARY.vlt_build_info())
    return info


def model_load(
    source: str | bytes | NDArray[np.uint8], device: tuple[int, int], compute_type: int
) -> c_void_p:
    """A model from a weights file's path or its bytes, on (device type, device index)."""
    options = sized(
        VltModelOptions,
        device_type=device[0],
        device_index=device[1],
        compute_type=compute_type,
    )
    model = c_void_p()
    rest = ctypes.byref(options), ctypes.byref(model)
    if isinstance(source, str):
        check(LIBRARY.vlt_model_load(os.fsencode(source), *rest))
    else:
        content = np.frombuffer(source, np.uint8)
        check(LIBRARY.vlt_model_load_memory(content.ctypes.data, content.nbytes, *rest))
    return model


def model_info(model: c_void_p) -> dict[str, Any]:
    """The fields of vlt_model_info; device and dtype by name."""
    struct = sized(VltModelInfo)
    check(LIBRARY.vlt_model_get_info(model, ctypes.byref(struct)))
    info = as_dict(struct)
    for field, names in (("device_type", DEVICES), ("compute_type", DTYPES)):
        info[field] = next(name for name, value in names.items() if value == info[field])
    return info


def model_metadata(model: c_void_p) -> dict[str, str]:
    """Every key of the weights file's metadata with its value."""
    metadata: dict[str, str] = {}
    while key := LIBRARY.vlt_model_metadata_key(model, len(metadata)):
        metadata[key.decode()] = LIBRARY.vlt_model_metadata(model, key).decode()
    return metadata


def model_tokenizer(model: c_void_p) -> bytes | None:
    """A copy of the tokenizer.json inside the weights file; None where the file has none."""
    data, size = c_void_p(), c_uint64()
    check(LIBRARY.vlt_model_get_tokenizer(model, ctypes.byref(data), ctypes.byref(size)))
    return None if data.value is None else ctypes.string_at(data.value, size.value)


def session_create(
    model: c_void_p,
    num_threads: int,
    workspace_limit: int,
    profile: bool,
    disable_graphs: bool = False,
) -> c_void_p:
    """A session with its own workspace; 0 threads and 0 bytes are the defaults of vlt.h."""
    options = sized(
        VltSessionOptions,
        num_threads=num_threads,
        workspace_limit=workspace_limit,
        profile=int(profile),
        disable_graphs=int(disable_graphs),
    )
    session = c_void_p()
    check(LIBRARY.vlt_session_create(model, ctypes.byref(options), ctypes.byref(session)))
    return session


def session_workspace_bytes(session: c_void_p, tokens: int, sequences: int, longest: int) -> int:
    """Bytes of workspace for batches up to this size."""
    size = c_uint64()
    check(
        LIBRARY.vlt_session_workspace_bytes(session, tokens, sequences, longest, ctypes.byref(size))
    )
    return size.value


def session_reserve(session: c_void_p, tokens: int, sequences: int, longest: int) -> None:
    """Grow the workspace once for batches up to this size."""
    check(LIBRARY.vlt_session_reserve(session, tokens, sequences, longest))


def session_memory_stats(session: c_void_p) -> dict[str, Any]:
    """The fields of vlt_memory_stats."""
    stats = sized(VltMemoryStats)
    check(LIBRARY.vlt_session_get_memory_stats(session, ctypes.byref(stats)))
    return as_dict(stats)


def session_profile(session: c_void_p) -> list[dict[str, Any]]:
    """One dict of vlt_profile_entry's fields for each operation, in order."""
    count = c_int32()
    check(LIBRARY.vlt_session_get_profile(session, None, ctypes.byref(count)))
    entries = (VltProfileEntry * count.value)()
    check(LIBRARY.vlt_session_get_profile(session, entries, ctypes.byref(count)))
    return [as_dict(entry) for entry in entries[: count.value]]


def packed_batch(
    num_sequences: int,
    num_tokens: int,
    token_ids: int,
    starts: int,
    token_types: int,
    pooling_starts: int,
    memory: int,
    stream: int = 0,
    num_chosen: int = 0,
    chosen: int = 0,
) -> VltPackedBatch:
    """A batch of int32 arrays by their addresses, 0 for none; the caller keeps them alive.

    `memory` is where all of them are, but for `chosen`, which is on the host.
    """
    batch: VltPackedBatch = batch_from(
        pack_batch(
            num_sequences,
            num_tokens,
            token_ids,
            starts,
            token_types,
            pooling_starts,
            memory,
            stream,
            num_chosen,
            chosen,
        )
    )
    return batch


def run_output(kind: int, dtype: int, address: int, nbytes: int, memory: int) -> VltOutput:
    """What writes one output into an array; the caller keeps it alive."""
    output: VltOutput = output_from(pack_output(kind, dtype, address, nbytes, memory))
    return output


def host_batch(
    token_ids: NDArray[np.int32],
    starts: NDArray[np.int32],
    token_types: NDArray[np.int32] | None = None,
    pooling_starts: NDArray[np.int32] | None = None,
    chosen: NDArray[np.int32] | None = None,
) -> VltPackedBatch:
    """A batch of C-contiguous arrays on the host; the caller keeps them alive."""
    return packed_batch(
        len(starts) - 1,
        len(token_ids),
        int32_address(token_ids),
        int32_address(starts),
        int32_address(token_types),
        int32_address(pooling_starts),
        MEMORY["host"],
        num_chosen=0 if chosen is None else len(chosen),
        chosen=int32_address(chosen),
    )


def host_output(kind: int, out: NDArray[np.float32]) -> VltOutput:
    """What writes one output into a C-contiguous array on the host; the caller keeps it alive."""
    return run_output(kind, DTYPES["float32"], address_of(out), out.nbytes, MEMORY["host"])


def run(session: c_void_p, batch: VltPackedBatch, output: VltOutput) -> None:
    """Run one packed batch and write one output.

    With a stream and the output on the device the call returns before the work is done.
    """
    # ctypes passes the structs by reference, in less time than byref() takes.
    check(LIBRARY.vlt_run(session, batch, output, 1))


def session_synchronize(session: c_void_p) -> None:
    """Wait for runs that returned before they were done; raises what they found wrong."""
    check(LIBRARY.vlt_session_synchronize(session))


def device_allocate(model: c_void_p, num_bytes: int) -> c_void_p:
    """Memory on the model's device; NULL for 0 bytes."""
    memory = c_void_p()
    check(LIBRARY.vlt_device_allocate(model, num_bytes, ctypes.byref(memory)))
    return memory


def device_copy(model: c_void_p, to: int, source: int, num_bytes: int) -> None:
    """Copy between addresses on the host or the model's device."""
    check(LIBRARY.vlt_device_copy(model, to, source, num_bytes))
