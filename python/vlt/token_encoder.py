"""The encoder on token ids: weights, sessions for concurrent callers, and runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import outputs, weights_source
from .arguments import parse_stream
from .handles import Model, Session
from .packed_array import PackedArray
from .packed_run import PackedRun
from .packing import PackedIds, pack
from .run_inputs import chosen_array, pooling_array, types_array
from .sessions import SessionPool

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .outputs import OutputName
    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Int32Array = NDArray[np.int32]


# One brings its batch and fetches its results while the other computes.
CALLS_SIDE_BY_SIDE_ON_A_GPU = 2

PACKED = ("hidden", "token_logits")  # outputs with a row for each token


class TokenEncoder:
    """An encoder that takes token ids; `Encoder` adds texts. See there for the parameters."""

    def __init__(
        self,
        path: Source,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        disable_graphs: bool = False,
    ) -> None:
        self._source = weights_source.describe(path)
        self._model = Model(weights_source.weights_of(path), device, dtype)
        self._info = self._model.info
        capacity = usable_cores() if num_threads == 1 else 1
        if self._model.gpu:
            capacity = num_threads or CALLS_SIDE_BY_SIDE_ON_A_GPU
        self._sessions = SessionPool(
            lambda: Session(
                self._model, num_threads, workspace_limit, disable_graphs=disable_graphs
            ),
            capacity,
        )

    def run(
        self,
        ids: Any,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        token_types: Any = None,
        pooling_starts: ArrayLike | None = None,
        output: OutputName = "hidden",
        chosen: ArrayLike | None = None,
    ) -> Any:
        """Run the model on token ids.

        Parameters
        ----------
        ids : list of lists or arrays, or array
            Token ids of S sequences, in any of the forms that `vlt.pack` takes, or a `PackedIds`.
        lengths : [S] integers, optional
            Tokens of each sequence, for packed ids [T] or padded ids [S, L].
        mask : [S, L] of 0 and 1, optional
            Which tokens of padded ids count.
        token_types : optional
            Types of the tokens (segments), in the same form as `ids`; all zero if left out.
        pooling_starts : [S] integers, optional
            Tokens at each sequence's head to leave out of pooling; none if left out.
        output : str
            "hidden": the last layer's states. The others are what the heads of the weights file
            make of them, "embedding": vectors, pooled, projected and normalised; "logits": scores
            of each sequence; "token_logits": scores of each token; "vocabulary": scores of every
            word for `chosen` tokens; "sparse": a weight for every word (SPLADE).
        chosen : [C] integers, optional
            For "vocabulary", and needed there: places among the T packed tokens, ascending.

        Returns
        -------
        PackedArray, or [S, D], [S, N], [C, V] or [S, V] float32
            A PackedArray has one array a sequence: [L_i, H] float32 states for "hidden", [L_i, N]
            for "token_logits". N is the number of the head's outputs, V of words. Every element
            of "sparse" is there, though most are zero.

        Raises
        ------
        InvalidArgumentError
            An id outside the vocabulary, a sequence longer than `max_length`, arrays that do not
            fit each other; the message names the sequence, the position and the value.
        TypeError
            Something other than integers, or nested otherwise.
        UnsupportedError
            The weights file has no head for `output`.
        """
        outputs.require(self._info, output)
        packed = ids if isinstance(ids, PackedIds) else pack(ids, lengths, mask)
        types = None if token_types is None else types_array(packed, token_types, lengths, mask)
        skipped = None if pooling_starts is None else pooling_array(packed, pooling_starts)
        places = chosen_array(len(packed.values), chosen, output)
        result = self._compute(packed, output, types, skipped, places)
        return PackedArray(result, packed.starts) if output in PACKED else result

    def _compute(
        self,
        ids: PackedIds,
        output: OutputName,
        token_types: Int32Array | None = None,
        pooling_starts: Int32Array | None = None,
        chosen: Int32Array | None = None,
    ) -> Float32Array:
        """One output of a checked batch, [rows, columns] float32."""
        num_chosen = 0 if chosen is None else len(chosen)
        shape = self._model.outputs[output].shape(len(ids.values), len(ids), num_chosen)
        result = np.empty(shape, np.float32)
        self._run(ids, output, result, token_types, pooling_starts, chosen)
        return result

    def _run(
        self,
        ids: PackedIds,
        output: str,
        out: Float32Array,
        token_types: Int32Array | None = None,
        pooling_starts: Int32Array | None = None,
        chosen: Int32Array | None = None,
    ) -> None:
        with self._sessions.borrow() as session:
            session.run(ids, output, out, token_types, pooling_starts, chosen)

    def run_packed(
        self,
        token_ids: Any,
        sequence_starts: Any,
        *,
        token_types: Any = None,
        pooling_starts: Any = None,
        output: OutputName = "hidden",
        chosen: ArrayLike | None = None,
        out: Any = None,
        stream: Any = None,
        dtype: str | None = None,
    ) -> Any:
        """Run the model on packed arrays where they are: on the host, or on the encoder's GPU.

        Nothing is copied or converted. Arrays on the GPU may be PyTorch's, CuPy's or any others
        with `__cuda_array_interface__` or `__dlpack__`.

        Parameters
        ----------
        token_ids : [T] int32
            The ids of S sequences, laid end to end.
        sequence_starts : [S + 1] int32
            Sequence i is `token_ids[sequence_starts[i]:sequence_starts[i + 1]]`.
        token_types : [T] int32, optional
            Types of the tokens (segments); all zero if left out.
        pooling_starts : [S] int32, optional
            Tokens at each sequence's head to leave out of pooling; none if left out.
        output : str
            See `run`; arrays on a GPU go with "hidden", "embedding" and "logits".
        chosen : [C] integers on the host, optional
            For "vocabulary", see `run`.
        out : [T, H], [S, D] or as `run` has it, optional
            Where to write the result, on the host or on the encoder's GPU. If left out: a new
            numpy array or `DeviceArray`, beside the inputs.
        stream : optional
            A CUDA stream, as an integer or an object of PyTorch or CuPy. The call runs after what
            the stream holds already, and what the stream gets next runs after the call; with the
            result on the GPU it returns at once. What is wrong with values on the GPU is then
            raised by `synchronize`, by the result, or by a later call with a stream. If left out,
            the arrays' own streams are respected and the call returns when the result is there.
        dtype : str, optional
            "float32", or for states the encoder's own `dtype`. If left out: that of `out`, or
            float32.

        Returns
        -------
        `out`, or [T, H], [S, D] or as `run` has it, as a numpy array or a DeviceArray
            Rows of tokens are packed, without the sequences' bounds.

        Raises
        ------
        InvalidArgumentError
            Values as in `run`; arrays that do not fit each other, are not dense, or are on
            different devices.
        TypeError
            An array that is not int32. PyTorch's default is int64.
        UnsupportedError
            Arrays on a GPU for an encoder on the CPU, or with an output that is made on the host;
            the weights file has no head for `output`.
        """
        run = PackedRun(self._model, self._model.outputs[output], dtype, parse_stream(stream))
        run.take_inputs(token_ids, sequence_starts, token_types, pooling_starts, chosen)
        run.take_output(out)
        with self._sessions.borrow() as session:
            return run.run(session)

    def synchronize(self) -> None:
        """Wait for runs with a stream; raises what was wrong with their values.

        Raises
        ------
        InvalidArgumentError
            The values in device arrays broke a rule; results of runs since the last call are
            undefined.
        """
        self._sessions.synchronize()

    # ---- What it is --------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, str]:
        """The weights file's metadata."""
        return dict(self._model.metadata)

    @property
    def hidden_size(self) -> int:
        """H: numbers in a token's state."""
        return int(self._info["hidden_size"])

    @property
    def embedding_size(self) -> int:
        """D: numbers in an embedding; 0 where the model has no embedding head."""
        return int(self._info["embedding_size"])

    @property
    def outputs(self) -> list[str]:
        """What `run` can give: "hidden", and the outputs that the weights file has heads for."""
        return outputs.available(self._info)

    @property
    def num_layers(self) -> int:
        return int(self._info["num_layers"])

    @property
    def vocab_size(self) -> int:
        return int(self._info["vocab_size"])

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence that `run` takes: what the position table covers."""
        return int(self._info["max_length"])

    @property
    def weight_bytes(self) -> int:
        """Memory held by the prepared weights."""
        return int(self._info["weight_bytes"])

    @property
    def device(self) -> str:
        """Where the weights are: "cpu", "cuda:0", "cuda:1"."""
        return self._model.device

    @property
    def dtype(self) -> str:
        """Type of the matrix products."""
        return str(self._info["compute_type"])

    @property
    def kernels(self) -> str:
        """Name of the instruction set in use."""
        return str(self._info["kernels"])

    # ---- Memory and life ---------------------------------------------------------------------

    def reserve(self, num_tokens: int, num_sequences: int, max_length: int | None = None) -> None:
        """Grow the workspace once, so that batches within the bound never allocate.

        Parameters
        ----------
        num_tokens, num_sequences : int
            The largest batch.
        max_length : int, optional
            Its longest sequence; the model's longest if left out.
        """
        longest = min(self.max_length, num_tokens) if max_length is None else max_length
        self._sessions.reserve(num_tokens, num_sequences, longest)

    def warm_up(
        self, num_tokens: int, num_sequences: int | None = None, max_length: int | None = None
    ) -> None:
        """Do all that the first runs would spend time on, for every caller that may come.

        As `reserve`, and beforehand for each of the calls that may run side by side. On a GPU it
        also captures the graphs of batches up to this size.

        Parameters
        ----------
        num_tokens : int
            Of the largest batch.
        num_sequences : int, optional
            Of the largest batch; as many as it has tokens if left out.
        max_length : int, optional
            Its longest sequence; the model's longest if left out.
        """
        self._sessions.fill()
        self.reserve(num_tokens, num_tokens if num_sequences is None else num_sequences, max_length)

    def memory_stats(self) -> dict[str, Any]:
        """What the workspaces need, hold and did: the fields of vlt_memory_stats in vlt.h.

        Waits for the runs in progress. Where concurrent callers have workspaces of their own,
        the numbers are added up; planned_peak_bytes is the largest.
        """
        return self._sessions.memory_stats()

    def cancel(self) -> None:
        """Make the runs in progress raise `CancelledError` soon. From any thread."""
        self._sessions.cancel()

    def close(self) -> None:
        """Free weights and workspaces, after the runs in progress. Closing twice is harmless."""
        self._sessions.close()
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._source}: {self.num_layers} layers, hidden size "
            f"{self.hidden_size}, {self.dtype} on {self.device} with {self.kernels})"
        )


def usable_cores() -> int:
    """Cores in this process's affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
