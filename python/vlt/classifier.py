"""Labels of texts and of tokens: what transformers' classification pipelines do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import entities, outputs, scores
from .arguments import checked
from .errors import InvalidArgumentError, UnsupportedError
from .labels import function_for, label_names, problem_of
from .progress import ProgressBar
from .sentences import list_of, without_pair_dicts
from .text_encoder import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Text = str | tuple[str, str] | dict[str, str]

FunctionName = Literal["sigmoid", "softmax", "none"]
Strategy = Literal["none", "simple", "first", "average", "max"]


class Classifier(TextEncoder):
    """Gives texts labels (`predict`), or each token of them (`classify_tokens`).

    Which of the two is up to the weights file: it has a sequence head or a token head. Texts longer
    than `max_seq_length` tokens are truncated to it, as `Encoder.encode` does; a text's result is
    the same to the bit whatever it is classified together with.

    See `vlt.text_encoder.TextEncoder` for the parameters, the errors and further attributes.

    Attributes
    ----------
    problem : str
        What a text's scores mean: "single_label", "multi_label" or "regression".

    Raises
    ------
    UnsupportedError
        The weights file has neither head.

    Examples
    --------
    >>> classifier = vlt.Classifier("sentiment.bin")
    >>> classifier.predict(["I love it.", "It broke."])
    [{'label': 'POSITIVE', 'score': 0.9998}, {'label': 'NEGATIVE', 'score': 0.9991}]
    >>> tagger = vlt.Classifier("ner.bin")
    >>> tagger.classify_tokens("Ada lives in London.", aggregation_strategy="simple")[1]
    {'entity_group': 'LOC', 'score': 0.998, 'word': 'london', 'start': 13, 'end': 19}
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
        if not {"logits", "token_logits"} & set(self.outputs):
            raise UnsupportedError(
                "Classifier needs a weights file with a sequence head or a token head, and this "
                f"one has neither; it gives {', '.join(map(repr, self.outputs))}"
            )
        self.problem = problem_of(self._model.metadata)

    @property
    def labels(self) -> list[str]:
        """Names of the labels of texts; of tokens where the file has no sequence head."""
        return self._labels("logits" if "logits" in self.outputs else "token_logits")

    def predict(
        self,
        texts: Text | Sequence[Text] | NDArray[Any],
        top_k: int | None = 1,
        function_to_apply: FunctionName | None = None,
        show_progress_bar: bool | None = None,
    ) -> list[Any]:
        """Label texts, as transformers' pipeline "text-classification" does.

        Parameters
        ----------
        texts : str, or list or array of str
            A pair of texts in a list, (str, str) or {"text": str, "text_pair": str}, counts as
            one: the model sees both. Such a dict may stand alone.
        top_k : int or None
            How many labels of each text, the best first; None: all.
        function_to_apply : str, optional
            What makes scores of logits: "sigmoid", "softmax" or "none". If left out, as `problem`
            says: softmax for "single_label", sigmoid for "multi_label" and for one label alone,
            none for "regression".
        show_progress_bar : bool, optional
            If left out: only on a terminal, and only for work of more than a second.

        Returns
        -------
        list of dict, or list of lists of dicts
            {"label": str, "score": float}. With `top_k` 1 one a text, in a list for a str too;
            otherwise a list of them for a str or a dict, a list of lists for a list.

        Raises
        ------
        TypeError, InvalidArgumentError
            Something that is no text, an unknown function.
        UnsupportedError
            The weights file has no sequence head, or no tokenizer.
        """
        outputs.require(self._info, "logits", "predict()")
        labels = self._labels("logits")
        count = len(labels) if top_k is None else checked("top_k", top_k, 1)
        default = function_for(self.problem, len(labels))
        function = scores.function_named(function_to_apply or default)
        items, single = list_of(without_pair_dicts(texts))
        single = single or isinstance(texts, dict)
        results: list[Any] = []
        with ProgressBar(len(items), "texts", show_progress_bar) as bar:
            for _, logits in self._sequence_output(items, "logits", "", bar):
                results.extend(best_labels(row, labels, count) for row in function(logits))
        if top_k == 1:
            return [best for (best,) in results]
        return results[0] if single else results

    def classify_tokens(
        self,
        texts: str | Sequence[str] | NDArray[Any],
        aggregation_strategy: Strategy = "none",
        ignore_labels: Collection[str] = ("O",),
    ) -> list[Any]:
        """Label each token of texts, as transformers' pipeline "token-classification" does.

        Parameters
        ----------
        texts : str, or list or array of str
        aggregation_strategy : str
            "none": each token by itself. The others merge neighbours of one kind to entities
            ("B-" begins a new one): "simple" as they are; the rest first give all tokens of a word
            one label, that of the first token ("first"), of the highest score ("max"), or of the
            highest average ("average").
        ignore_labels : collection of str
            Labels to leave out of the result.

        Returns
        -------
        list of dict for a str, list of lists for a list
            For "none": "entity", "score", "index" (of the token in the input), "word" (the token),
            "start" and "end" (characters of the text). Otherwise "entity_group", "score", "word",
            "start" and "end".

        Raises
        ------
        TypeError, InvalidArgumentError
            Something that is no text, an unknown strategy.
        UnsupportedError
            The weights file has no token head, or no tokenizer.
        """
        outputs.require(self._info, "token_logits", "classify_tokens()")
        if aggregation_strategy not in entities.STRATEGIES:
            known = ", ".join(map(repr, entities.STRATEGIES))
            raise InvalidArgumentError(
                f"aggregation_strategy must be one of {known}, not {aggregation_strategy!r}"
            )
        labels = self._labels("token_logits")
        items, single = list_of(texts)
        if not all(isinstance(text, str) for text in items):
            raise TypeError("classify_tokens() takes single texts, not pairs of them")
        results: list[Any] = []
        tokenizer = self._text_tokenizer()
        for block, encodings, ids, types in self._encoding_blocks(items):
            shares = scores.softmax(self._compute(ids, "token_logits", types))
            for text, encoding, first in zip(items[block], encodings, ids.starts, strict=False):
                rows = shares[first : first + len(encoding)]
                tokens = entities.tokens_of(text, encoding, rows, tokenizer)
                found = entities.merge(tokens, labels, aggregation_strategy, tokenizer.join)
                results.append(entities.without(found, ignore_labels))
        return results[0] if single else results

    def _labels(self, output: str) -> list[str]:
        return label_names(self._model.metadata, self._info[outputs.OUTPUTS[output].columns])


def best_labels(row: Float32Array, labels: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The labels of the highest scores [N], best first."""
    return [
        {"label": labels[index], "score": float(row[index])}
        for index in scores.largest(row, count).tolist()
    ]
