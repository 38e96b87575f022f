"""What all classes on texts share: the tokenizer, prompts, lengths, work in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .arguments import checked
from .blocks import prefetch, split_texts
from .errors import UnsupportedError
from .sentences import list_of, prepend
from .text_config import DEFAULT_PROMPTS, DOCUMENT_PROMPTS, TextConfig, resolve_prompt
from .token_encoder import TokenEncoder
from .tokenizer import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .outputs import OutputName
    from .packing import PackedIds
    from .progress import ProgressBar
    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Int32Array = NDArray[np.int32]
    Text = str | tuple[str, str]


class TextEncoder(TokenEncoder):
    """An encoder that takes texts; `Encoder` and the classes for tasks say what it gives.

    Parameters
    ----------
    path : path-like, bytes or [bytes] uint8
        A weights file, a Hugging Face or sentence-transformers folder, which is converted in
        memory each time (`vlt.convert` does that once and for all), or what a weights file holds.
    device : str
        "cpu", "cuda" or "cuda:1"; "auto" is the first GPU where one can be used, otherwise the
        CPU. A build or a machine without the device says so.
    dtype : str
        Type of the weights: "float32", "bfloat16" or "int8" on the CPU; "float16", "bfloat16" or
        "float32" on a GPU, of the states in between too. "auto" is the first of these. Sums are
        float32. With "int8" the layers' products are in 8 bits (cosines with float32 of 0.999 on
        all-MiniLM-L6-v2) and all else is as with "bfloat16".
    num_threads : int, optional
        On the CPU the threads of one call; all cores this process may use if left out, and calls
        take turns. With 1, up to that many calls run side by side, each on its caller's thread.
        On a GPU the calls that may run side by side, each in a stream of its own; 2 if left out.
    workspace_limit : int, optional
        Bytes of workspace for one call; a batch that needs more is run in parts.
    disable_graphs : bool
        On a GPU small batches are run by replaying CUDA graphs; True launches every kernel anew,
        which takes longer and saves the graphs' memory. Never changes a result.
    max_length : int, optional
        Tokens that texts are truncated to; what the weights file says if left out. `max_seq_length`
        is the same, and may be changed later.

    Attributes
    ----------
    prompts : dict of str to str
        Name -> the text put before a sentence; may be changed. "query" and "document" are always
        there, empty where the weights file does not say otherwise.
    default_prompt_name : str or None
        Which of them is used when none is asked for; may be changed.

    Raises
    ------
    FileError
        `path` is missing or is neither a weights file nor a folder vlt can convert.
    UnsupportedError
        This build or machine has no such device or dtype, or the weights file not what the class
        is for.
    OutOfMemoryError
        The weights do not fit.
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
        super().__init__(path, device, dtype, num_threads, workspace_limit, disable_graphs)
        text = TextConfig.from_metadata(self._model.metadata, self.max_length)
        self._text = text
        self._max_seq_length = text.max_length
        self._tokenizer: TextTokenizer | None = None
        self.prompts = DEFAULT_PROMPTS | text.prompts
        self.default_prompt_name = text.default_prompt
        if max_length is not None:
            self.max_seq_length = max_length

    def tokenize(self, texts: Text | Sequence[Text]) -> list[Any]:
        """Token ids of each text, special ones included, truncated to `max_seq_length`.

        A list gives a list of lists, a single str one list.
        """
        items, single = list_of(texts)
        ids = self._text_tokenizer().ids(items)
        return ids[0] if single else ids

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

    def _check_device(self, device: str | None) -> None:
        """Calls take a device as those of sentence-transformers do; it must be the encoder's."""
        if device is not None and str(device) not in (self.device, self._info["device_type"]):
            raise UnsupportedError(
                f"this encoder's weights are on {self.device}; make another one with "
                f"device={device!r}"
            )

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        """The text to put before sentences."""
        return resolve_prompt(self.prompts, self.default_prompt_name, name, prompt)

    # ---- Tokens ------------------------------------------------------------------------------

    def _text_tokenizer(self) -> TextTokenizer:
        """A tokenizer is never changed, since other threads may be using it, but replaced."""
        tokenizer = self._tokenizer
        if tokenizer is None or tokenizer.max_length != self._max_seq_length:
            tokenizer = self._new_tokenizer(self._max_seq_length)
            self._tokenizer = tokenizer
        return tokenizer

    def _new_tokenizer(
        self, max_length: int, direction: Literal["left", "right"] | None = None
    ) -> TextTokenizer:
        """One that cuts texts to so many tokens, on this side."""
        return TextTokenizer(
            self._tokenizer_json(),
            max_length,
            self._text.lower_case,
            has_types=self._info["num_token_types"] > 0,
            direction=direction,
        )

    def _tokenizer_json(self) -> bytes:
        source = self._model.tokenizer()
        if source is None:
            raise UnsupportedError(
                "this weights file has no tokenizer; run() takes token ids, and converting a "
                "folder with a tokenizer.json puts it in"
            )
        return source

    def _skipped(self, prompt: str) -> int:
        """Tokens at the head of every text that pooling leaves out."""
        if not prompt or self._text.pool_prompt:
            return 0
        return self._text_tokenizer().prompt_length(prompt)

    # ---- Blocks ------------------------------------------------------------------------------

    def _text_blocks(self, texts: Sequence[Text]) -> list[slice]:
        """Consecutive blocks of texts of about equal work."""
        return split_texts(texts, self._max_seq_length, self._info["device_type"])

    def _blocks(
        self, texts: Sequence[Text], prompt: str, bar: ProgressBar
    ) -> Iterator[tuple[slice, PackedIds, Int32Array | None]]:
        """Each block's place among the texts, its ids and its token types."""
        tokenizer = self._text_tokenizer()

        def tokenize(block: slice) -> tuple[slice, PackedIds, Int32Array | None]:
            return block, *tokenizer.pack([prepend(prompt, text) for text in texts[block]])

        for item in prefetch(tokenize, self._text_blocks(texts)):
            yield item
            bar.update(item[0].stop)

    def _encoding_blocks(
        self, texts: Sequence[Text]
    ) -> Iterator[tuple[slice, list[Any], PackedIds, Int32Array | None]]:
        """The same with the encodings, which know each token's place in its text."""
        tokenizer = self._text_tokenizer()

        def tokenize(block: slice) -> tuple[slice, list[Any], PackedIds, Int32Array | None]:
            encodings = tokenizer.encodings(texts[block])
            return block, encodings, *tokenizer.packed(encodings, texts[block])

        yield from prefetch(tokenize, self._text_blocks(texts))

    def _sequence_output(
        self, texts: Sequence[Text], output: OutputName, prompt: str, bar: ProgressBar
    ) -> Iterator[tuple[slice, Float32Array]]:
        """An output with a row for each text, block by block: their place, and [n, N] float32."""
        skip = self._skipped(prompt)
        for block, ids, types in self._blocks(texts, prompt, bar):
            starts = np.minimum(ids.lengths, skip).astype(np.int32) if skip else None
            yield block, self._compute(ids, output, types, starts)


class PromptedEncoder(TextEncoder):
    """A `TextEncoder` whose `encode` has prompts of its own for queries and for documents."""

    def encode(self, sentences: Any, *arguments: Any, **options: Any) -> Any:
        """What the class makes of texts."""
        raise NotImplementedError

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
