"""vlt: transformer encoders on texts of different lengths, without padding.

In short::

    vlt.convert("all-MiniLM-L6-v2/", "weights.bin")  # a folder as Hugging Face has it
    encoder = vlt.Encoder("weights.bin")             # or the folder itself
    encoder.encode(["A man is eating food.", "A cheetah runs."])  # [2, 384] float32
    encoder.run([[101, 7592, 102], [101, 102]])      # token ids in, packed states out

`CrossEncoder` scores pairs of texts, `Classifier` labels texts or their tokens, `QuestionAnswerer`
finds answers in texts, `FillMask` words for gaps, and `SparseEncoder` weights of words.
`AsyncEncoder` is for asyncio: it makes batches of what many tasks ask for at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._native import build_info
from .classifier import Classifier
from .cross_encoder import CrossEncoder
from .device_array import DeviceArray
from .encoder import Encoder
from .errors import (
    CancelledError,
    ClosedError,
    DeadlineError,
    Error,
    FileError,
    InvalidArgumentError,
    OutOfMemoryError,
    OverloadedError,
    UnsupportedError,
    VltError,
)
from .fill_mask import FillMask
from .log import disable_logging, enable_logging
from .packed_array import PackedArray
from .packing import PackedIds, pack
from .question_answerer import QuestionAnswerer
from .sparse_encoder import SparseEncoder
from .sparse_vectors import SparseVectors

if TYPE_CHECKING:
    import os
    from pathlib import Path
    from typing import Any

    from .async_encoder import AsyncEncoder
    from .converter import Dtype

__version__: str = build_info()["version"]

__all__ = [
    "AsyncEncoder",
    "CancelledError",
    "Classifier",
    "ClosedError",
    "CrossEncoder",
    "DeadlineError",
    "DeviceArray",
    "Encoder",
    "Error",
    "FileError",
    "FillMask",
    "InvalidArgumentError",
    "OutOfMemoryError",
    "OverloadedError",
    "PackedArray",
    "PackedIds",
    "QuestionAnswerer",
    "SparseEncoder",
    "SparseVectors",
    "UnsupportedError",
    "VltError",
    "__version__",
    "build_info",
    "convert",
    "disable_logging",
    "enable_logging",
    "from_transformers",
    "pack",
]


def __getattr__(name: str) -> Any:
    """`AsyncEncoder` is imported when it is asked for: asyncio would be a fifth of the time."""
    if name != "AsyncEncoder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .async_encoder import AsyncEncoder

    return AsyncEncoder


def convert(
    folder: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    dtype: Dtype = "float32",
) -> Path:
    """Write the weights file of a model folder; see `vlt.converter.convert`."""
    from .converter import convert as write

    return write(folder, out_path, dtype=dtype)


def from_transformers(model: Any, **options: Any) -> Encoder:
    """An encoder with the weights of a transformers model that is in memory.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of any family and with any head that `convert` knows; it is left as it is, and its weights
        are copied.
    **options
        As for `Encoder`: `device`, `dtype`, `num_threads` and so on.

    Returns
    -------
    Encoder
        The model has no tokenizer, so `Encoder.run` takes its token ids. The other classes take
        what `vlt.converter.convert_model` gives in place of a path.

    Raises
    ------
    ConversionError
        vlt would compute the model differently.
    """
    from .converter import convert_model

    return Encoder(convert_model(model), **options)
