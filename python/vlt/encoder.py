"""The encoder on texts: what sentence-transformers' users know, without padding."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import vectors
from .arguments import checked
from .blocks import prefetch, split_texts
from .errors import InvalidArgumentError, UnsupportedError
from .packed_array import PackedArray
from .progress import ProgressBar
from .sentences import list_of, prepend
from .text_config import DEFAULT_PROMPTS, DOCUMENT_PROMPTS, TextConfig, resolve_prompt
from .token_encoder import TokenEncoder
from .tokenizer import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from .packing import PackedIds

    Float32Array = NDArray[np.float32]
    Int32Array = NDArray[np.int32]
    Text = str | tuple[str, str]

OutputValue = Literal["sentence_embedding", "token_embeddings"]
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]


class Encoder(TokenEncoder):
    """A transformer encoder on texts of different lengths, without padding.

    One encoder may be used from many threads at once. The result for a text is the same to the
    bit whatever it is encoded together with, and on however many threads.

    Parameters
    ----------
    path : path-like
        A weights file, or a Hugging Face or sentence-transformers folder, which is converted
        in memory each time; `vlt.convert` does that once and for all.
    device : str
        "cpu", "cuda" or "cuda:1"; "auto" is the first GPU where one can be used, otherwise the
        CPU. A build or a machine without the device says so.
    dtype : str
        Type of the matrix products: "float32" on the CPU; "float16", "bfloat16" or "float32" on a
        GPU. "auto" is the first of these.
    num_threads : int, optional
        On the CPU the threads of one call; all cores this process may use if left out, and calls
        take turns. With 1, up to that many calls run side by side, each on its caller's thread.
        On a GPU the calls that may run side by side, each in a stream of its own; 2 if left out.
    workspace_limit : int, optional
        Bytes of workspace for one call; a batch that needs more is run in parts.
    disable_graphs : bool
        On a GPU small batches are run by replaying CUDA graphs; True launches every kernel anew,
        which takes longer and saves the graphs' memory. Never changes a result.

    Attributes
    ----------
    prompts : dict of str to str
        Name -> the text put before a sentence; may be changed. "query" and "document" are always
        there, empty where the weights file does not say otherwise.
    default_prompt_name : str or None
        Which of them `encode` uses when none is asked for; may be changed.
    similarity_fn_name : str
        How `similarity` compares: "cosine", "dot", "euclidean" or "manhattan"; may be changed.

    Raises
    ------
    FileError
        `path` is missing or is neither a weights file nor a folder vlt can convert.
    UnsupportedError
        This build or machine has no such device or dtype.
    OutOfMemoryError
        The weights do not fit.

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
        path: str | os.PathLike[str],
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        disable_graphs: bool = False,
    ) -> None:
        super().__init__(path, device, dtype, num_threads, workspace_limit, disable_graphs)
        text = TextConfig.from_metadata(self._model.metadata, self.max_length)
        self._text = text
        self._max_seq_length = text.max_length
        self._tokenizer: TextTokenizer | None = None
        self.prompts = DEFAULT_PROMPTS | text.prompts
        self.default_prompt_name = text.default_prompt
        self.similarity_fn_name = text.similarity

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
        text = resolve_prompt(self.prompts, self.default_prompt_name, prompt_name, prompt)
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

    def encode_query(
        self,
        sentences: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Any,
    ) -> Any:
        """`encode` with the prompt "query" where none is asked for."""
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(sentences, prompt_name, prompt, **options)

    def encode_document(
        self,
        sentences: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Any,
    ) -> Any:
        """`encode` with the first of the prompts "document", "passage" and "corpus" there is."""
        if prompt_name is None and prompt is None:
            prompt_name = next((name for name in DOCUMENT_PROMPTS if name in self.prompts), None)
        return self.encode(sentences, prompt_name, prompt, **options)

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Float32Array:
        """[n, D] and [m, D] embeddings -> [n, m] float32 scores by `similarity_fn_name`."""
        return vectors.similarity(embeddings1, embeddings2, self.similarity_fn_name)

    def tokenize(self, texts: Text | Sequence[Text]) -> list[Any]:
        """Token ids of each text, special ones included, truncated to `max_seq_length`.

        A list gives a list of lists, a single str one list.
        """
        items, single = list_of(texts)
        ids = self._text_tokenizer().ids(items)
        return ids[0] if single else ids

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
        if device is not None and str(device) not in (self.device, self._info["device_type"]):
            raise UnsupportedError(
                f"this encoder's weights are on {self.device}; make another one with "
                f"device={device!r}"
            )
        if output_value == "sentence_embedding":
            self._require_embedding_head()

    # ---- Tokenizer ---------------------------------------------------------------------------

    @property
    def max_seq_length(self) -> int:
        """Tokens that texts are truncated to, special ones included; may be set."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self._max_seq_length = checked("max_seq_length", value, 1, self.max_length)

    def get_max_seq_length(self) -> int:
        """The same as `max_seq_length`."""
        return self._max_seq_length

    def get_embedding_dimension(self) -> int | None:
        """D; None where the model has no embedding head."""
        return self.embedding_size or None

    def get_sentence_embedding_dimension(self) -> int | None:
        """The same as `get_embedding_dimension`."""
        return self.get_embedding_dimension()

    def _text_tokenizer(self) -> TextTokenizer:
        """A tokenizer is never changed, since other threads may be using it, but replaced."""
        tokenizer = self._tokenizer
        if tokenizer is None or tokenizer.max_length != self._max_seq_length:
            source = self._model.tokenizer()
            if source is None:
                raise UnsupportedError(
                    "this weights file has no tokenizer; run() takes token ids, and converting a "
                    "folder with a tokenizer.json puts it in"
                )
            tokenizer = TextTokenizer(source, self._max_seq_length, self._text.lower_case)
            self._tokenizer = tokenizer
        return tokenizer

    # ---- Blocks ------------------------------------------------------------------------------

    def _blocks(
        self, texts: Sequence[Text], prompt: str, bar: ProgressBar
    ) -> Iterator[tuple[slice, PackedIds, Int32Array | None]]:
        """Each block's place among the texts, its ids and its token types."""
        tokenizer = self._text_tokenizer()
        blocks = split_texts(texts, self._max_seq_length, self._info["device_type"])

        def tokenize(block: slice) -> tuple[slice, PackedIds, Int32Array | None]:
            return block, *tokenizer.pack([prepend(prompt, text) for text in texts[block]])

        for item in prefetch(tokenize, blocks):
            yield item
            bar.update(item[0].stop)

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
        skip = 0
        if prompt and not self._text.pool_prompt:
            skip = self._text_tokenizer().prompt_length(prompt)
        result = np.empty((len(texts), size), np.float32)
        for block, ids, types in self._blocks(texts, prompt, bar):
            full = np.empty((len(ids), self.embedding_size), np.float32)
            starts = np.minimum(ids.lengths, skip).astype(np.int32) if skip else None
            self._run(ids, "embedding", full, types, starts)
            kept = full[:, :size]
            result[block] = vectors.normalize(kept) if normalize else kept
        return result

    def _embed_tokens(
        self, texts: Sequence[Text], prompt: str, bar: ProgressBar
    ) -> list[Float32Array]:
        """One [L, H] array of states a text."""
        result: list[Float32Array] = []
        for _, ids, types in self._blocks(texts, prompt, bar):
            states = np.empty((len(ids.values), self.hidden_size), np.float32)
            self._run(ids, "hidden", states, types)
            result.extend(PackedArray(states, ids.starts))
        return result


def import_torch() -> Any:
    """The module torch, only where tensors are asked for."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "convert_to_tensor=True and convert_to_numpy=False give torch tensors, and torch is "
            f"not installed ({error}); leave them out for numpy arrays"
        ) from error
    return torch
