"""The encoder on texts: what sentence-transformers' users know, without padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import vectors
from .arguments import checked
from .errors import InvalidArgumentError, UnsupportedError
from .packed_array import PackedArray
from .progress import ProgressBar
from .sentences import list_of
from .tensors import import_torch
from .text_encoder import PromptedEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Text = str | tuple[str, str]

OutputValue = Literal["sentence_embedding", "token_embeddings"]
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]


class Encoder(PromptedEncoder):
    """A transformer encoder on texts of different lengths, without padding.

    One encoder may be used from many threads at once. The result for a text is the same to the
    bit whatever it is encoded together with, and on however many threads.

    See `vlt.text_encoder.TextEncoder` for the parameters, the errors and further attributes.

    Attributes
    ----------
    similarity_fn_name : str
        How `similarity` compares: "cosine", "dot", "euclidean" or "manhattan"; may be changed.

    Examples
    --------
    >>> encoder = vlt.Encoder("weights.bin")
    >>> encoder.run([[101, 7592, 102], [101, 102]]).lengths
    [3, 2]
    >>> encoder.encode(["A man is eating food.", "A cheetah runs."]).shape
    (2, 384)
    """

    def __init__(
        self,
        path: Source,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        disable_graphs: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__(
            path, device, dtype, num_threads, workspace_limit, disable_graphs, max_length
        )
        self.similarity_fn_name = self._text.similarity

    def encode(
        self,
        sentences: Text | Sequence[Text] | NDArray[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Embed texts; takes and returns what `SentenceTransformer.encode` does.

        Parameters
        ----------
        sentences : str, or list or array of str
            A pair of texts, (str, str), counts as one sentence: the model sees both.
        prompt_name : str, optional
            Which of `prompts` to put before each sentence; `default_prompt_name` if left out.
        prompt : str, optional
            The prompt itself, instead of its name.
        batch_size : int
            Accepted for compatibility. Without padding there is nothing to tune: vlt encodes
            blocks of about 8,000 tokens (65,000 on a GPU), and no result depends on them.
        show_progress_bar : bool, optional
            If left out: only on a terminal, and only for work of more than a second.
        output_value : str
            "sentence_embedding", or "token_embeddings": the states of each sentence's tokens.
        precision : str
            "float32", "int8", "uint8", "binary" or "ubinary"; see `vlt.vectors.quantize`.
        convert_to_numpy : bool
            False gives a list of torch tensors.
        convert_to_tensor : bool
            True gives one torch tensor, on the CPU.
        device : str, optional
            Accepted for compatibility; must be the encoder's own.
        normalize_embeddings : bool
            Scale the vectors to length 1.
        truncate_dim : int, optional
            Keep only this many leading dimensions, cut off before normalising.

        Returns
        -------
        [D] for a single str, [n, D] for a list; float32 or what `precision` makes of it
            In the order of the texts; no texts give an array of shape [0, D]. For
            "token_embeddings" one [L, H] float32 array for a str, a list of them for a list.

        Raises
        ------
        TypeError, InvalidArgumentError
            A sentence that is not text, an unknown prompt, precision or output value.
        UnsupportedError
            The weights file has no tokenizer, or no embedding head.
        """
        self._check_encode_options(output_value, precision, batch_size, device)
        torch = import_torch() if convert_to_tensor or not convert_to_numpy else None
        texts, single = list_of(sentences)
        text = self._prompt(prompt_name, prompt)
        with ProgressBar(len(texts), "texts", show_progress_bar) as bar:
            if output_value == "token_embeddings":
                tokens = vectors.quantize_lists(self._embed_tokens(texts, text, bar), precision)
                arrays = tokens if torch is None else list(map(torch.from_numpy, tokens))
                return arrays[0] if single else arrays
            embeddings = self._embed(texts, text, bar, normalize_embeddings, truncate_dim)
        result: Any = vectors.quantize(embeddings, precision)
        if torch is not None:
            result = torch.from_numpy(result)
            result = result if convert_to_tensor else list(result)
        return result[0] if single else result

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Float32Array:
        """[n, D] and [m, D] embeddings -> [n, m] float32 scores by `similarity_fn_name`."""
        return vectors.similarity(embeddings1, embeddings2, self.similarity_fn_name)

    def _check_encode_options(
        self, output_value: str, precision: str, batch_size: int, device: str | None
    ) -> None:
        checked("batch_size", batch_size, 1)
        if output_value not in ("sentence_embedding", "token_embeddings"):
            raise InvalidArgumentError(
                "output_value must be 'sentence_embedding' or 'token_embeddings', not "
                f"{output_value!r}"
            )
        if precision not in vectors.PRECISIONS:
            known = ", ".join(map(repr, vectors.PRECISIONS))
            raise InvalidArgumentError(f"precision must be one of {known}, not {precision!r}")
        self._check_device(device)
        if output_value == "sentence_embedding" and "embedding" not in self.outputs:
            raise UnsupportedError(
                "this weights file has no embedding head, so nothing makes one vector of a "
                "sequence; take the states: run(...) or encode(..., "
                "output_value='token_embeddings')"
            )

    def get_embedding_dimension(self) -> int | None:
        """D; None where the model has no embedding head."""
        return self.embedding_size or None

    def get_sentence_embedding_dimension(self) -> int | None:
        """The same as `get_embedding_dimension`."""
        return self.get_embedding_dimension()

    def _embed(
        self,
        texts: Sequence[Text],
        prompt: str,
        bar: ProgressBar,
        normalize: bool,
        truncate_dim: int | None,
    ) -> Float32Array:
        """[n, D] embeddings, truncated, then normalised."""
        size = self.embedding_size
        if truncate_dim is not None:
            size = min(size, checked("truncate_dim", truncate_dim, 1))
        result = np.empty((len(texts), size), np.float32)
        for block, full in self._sequence_output(texts, "embedding", prompt, bar):
            kept = full[:, :size]
            result[block] = vectors.normalize(kept) if normalize else kept
        return result

    def _embed_tokens(
        self, texts: Sequence[Text], prompt: str, bar: ProgressBar
    ) -> list[Float32Array]:
        """One [L, H] array of states a text."""
        result: list[Float32Array] = []
        for _, ids, types in self._blocks(texts, prompt, bar):
            result.extend(PackedArray(self._compute(ids, "hidden", types), ids.starts))
        return result
