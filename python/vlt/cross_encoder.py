"""Scores of pairs of texts: what sentence-transformers' CrossEncoder does, without padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import outputs, scores
from .arguments import checked
from .errors import UnsupportedError
from .labels import function_for, problem_of
from .progress import ProgressBar
from .sentences import pairs_of
from .tensors import call_on_array, import_torch
from .text_encoder import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Activation = Callable[[Any], Any]
    Pair = tuple[str, str] | list[str]


class CrossEncoder(TextEncoder):
    """Scores pairs of texts, which the model reads together, and so ranks documents for a query.

    A pair's result is the same to the bit whatever it is scored together with.

    See `vlt.text_encoder.TextEncoder` for the other parameters, the errors and attributes. A pair
    longer than `max_seq_length` is cut at the end of whichever text is the longer, token by token.

    Parameters
    ----------
    activation_fn : callable, optional
        What is applied to the scores, [n, N] float32: a function of arrays or a torch module. If
        left out: the sigmoid for a model with one score, unless the weights file calls it a
        regression, and for one whose scores the file calls multi-label; nothing otherwise.

    Attributes
    ----------
    activation_fn : callable
        May be changed.

    Raises
    ------
    UnsupportedError
        The weights file has no sequence head.

    Examples
    --------
    >>> reranker = vlt.CrossEncoder("reranker.bin")
    >>> reranker.predict([("How many people live in Berlin?", "Berlin has 3.7 million.")]).shape
    (1,)
    >>> reranker.rank("How many people live in Berlin?", ["Bananas.", "3.7 million."])[0]
    {'corpus_id': 1, 'score': 0.93}
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
        activation_fn: Activation | None = None,
    ) -> None:
        super().__init__(
            path, device, dtype, num_threads, workspace_limit, disable_graphs, max_length
        )
        outputs.require(self._info, "logits", "CrossEncoder")
        self.activation_fn = activation_fn or self._default_activation()

    def predict(
        self,
        sentences: Pair | Sequence[Pair] | NDArray[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
    ) -> Any:
        """Score pairs; takes and returns what `CrossEncoder.predict` of sentence-transformers does.

        Parameters
        ----------
        sentences : pair of str, or list or array of pairs
            A pair is (str, str).
        prompt_name, prompt : str, optional
            Put before the first text of each pair, see `Encoder.encode`.
        batch_size : int
            Accepted for compatibility: no result depends on it, and there is nothing to tune.
        show_progress_bar : bool, optional
            If left out: only on a terminal, and only for work of more than a second.
        activation_fn : callable, optional
            Instead of the encoder's own.
        apply_softmax : bool
            Of a model with several scores make shares that add up to 1, after the activation.
        convert_to_numpy : bool
            False gives a list of torch tensors.
        convert_to_tensor : bool
            True gives one torch tensor, on the CPU.
        device : str, optional
            Accepted for compatibility; must be the encoder's own.

        Returns
        -------
        [n] float32 for a model with one score, otherwise [n, N]
            In the order of the pairs. For a single pair a number, or [N].

        Raises
        ------
        TypeError, InvalidArgumentError
            Something that is no pair of texts, an unknown prompt.
        UnsupportedError
            The weights file has no tokenizer.
        """
        checked("batch_size", batch_size, 1)
        self._check_device(device)
        torch = import_torch() if convert_to_tensor or not convert_to_numpy else None
        pairs, single = pairs_of(sentences)
        logits = np.empty((len(pairs), self.num_labels), np.float32)
        text = self._prompt(prompt_name, prompt)
        with ProgressBar(len(pairs), "pairs", show_progress_bar) as bar:
            for block, rows in self._sequence_output(pairs, "logits", text, bar):
                logits[block] = rows
        result: Any = call_on_array(activation_fn or self.activation_fn, logits)
        if self.num_labels == 1 and result.ndim > 1:
            result = result[:, 0]
        if apply_softmax and result.ndim > 1:
            result = scores.softmax(result)
        if torch is not None:
            result = torch.from_numpy(result)
            result = result if convert_to_tensor else list(result)
        return result[0] if single else result

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: str | None = None,
    ) -> list[dict[str, Any]]:
        """Order documents by how well they answer a query.

        Parameters
        ----------
        query : str
        documents : list of str
        top_k : int, optional
            Give only so many, the best; all if left out.
        return_documents : bool
            Give the documents themselves too.
        prompt_name, prompt, batch_size, show_progress_bar, activation_fn, device
            As for `predict`.

        Returns
        -------
        list of dict
            "corpus_id" (place among the documents), "score", and "text" where asked for; the best
            first, equal ones in the order of the documents.

        Raises
        ------
        UnsupportedError
            The model has several scores, so that there is no one order.
        """
        if self.num_labels != 1:
            raise UnsupportedError(
                f"rank() needs a model with one score, and this one has {self.num_labels}; take "
                "predict() on pairs and choose among the scores"
            )
        if top_k is not None:
            checked("top_k", top_k, 1)
        texts = list(documents)
        found = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            device=device,
        ).tolist()
        ranked: list[dict[str, Any]] = [
            {"corpus_id": index, "score": score} | ({"text": text} if return_documents else {})
            for index, (score, text) in enumerate(zip(found, texts, strict=True))
        ]
        ranked.sort(key=lambda each: each["score"], reverse=True)
        return ranked[:top_k]

    @property
    def num_labels(self) -> int:
        """N: scores of a pair."""
        return int(self._info["num_labels"])

    def _default_activation(self) -> Activation:
        function = function_for(problem_of(self._model.metadata), self.num_labels)
        return scores.sigmoid if function == "sigmoid" else scores.identity
