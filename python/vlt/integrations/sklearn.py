"""Embeddings as a step of scikit-learn's pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vlt.encoder import Encoder

from .absent import absent
from .portable import Portable, options_of

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise absent(__name__, "scikit-learn", "sklearn", error) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vlt.weights_source import Source

    Float32Array = NDArray[np.float32]


class EncoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds a column of texts with `vlt.Encoder`.

    Nothing is learnt: `fit` opens the weights. A text's vector is the same to the bit whatever it
    is embedded together with, so that folds and splits change no feature. A fitted transformer may
    be copied and pickled; its copy in another process opens the weights there, at `path`.

    Every fit of a grid search embeds all texts anew, unless the pipeline has a `memory`. With
    `n_jobs`, give `num_threads` what each process may use.

    Parameters
    ----------
    path : path-like, bytes or [bytes] uint8
        A weights file, a model folder, or what a weights file holds; see `vlt.Encoder`.
    prompt_name, prompt : str, optional
        What to put before each text, see `Encoder.encode`; the model's default if left out.
    normalize_embeddings : bool
        Scale the vectors to length 1.
    truncate_dim : int, optional
        Keep only this many leading dimensions.
    device, dtype, num_threads, max_length
        As for `vlt.Encoder`.

    Examples
    --------
    >>> model = make_pipeline(EncoderTransformer("weights.bin"), LogisticRegression())
    >>> model.fit(texts, labels).predict(["A cheetah runs."])
    array(['animals'], dtype='<U7')
    """

    def __init__(
        self,
        path: Source,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        max_length: int | None = None,
    ) -> None:
        self.path = path
        self.prompt_name = prompt_name
        self.prompt = prompt
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim
        self.device = device
        self.dtype = dtype
        self.num_threads = num_threads
        self.max_length = max_length

    def fit(self, X: Any, y: Any = None) -> Self:
        """Open the weights; the texts are only looked at for being texts.

        Parameters
        ----------
        X : [n] or [n, 1] texts
            A list, an array, or a column of a data frame.
        y
            Ignored.

        Returns
        -------
        EncoderTransformer
            Itself.

        Raises
        ------
        TypeError, ValueError
            `X` is not one column of texts; a text is missing or is something else.
        VltError
            The weights cannot be opened or make no embeddings, or an option is wrong.
        """
        texts_of(X)
        self._encoder = Portable(Encoder, self.path, **options_of(self))
        self._n_features_out = self._embed([]).shape[1]
        return self

    def transform(self, X: Any) -> Float32Array:
        """Embed texts.

        Parameters
        ----------
        X : [n] or [n, 1] texts
            As for `fit`.

        Returns
        -------
        [n, D] float32, or the data frame that `set_output` asks for

        Raises
        ------
        NotFittedError
            `fit` comes first.
        TypeError, ValueError
            As for `fit`.
        """
        check_is_fitted(self)
        return self._embed(texts_of(X))

    def _embed(self, texts: list[str]) -> Float32Array:
        return self._encoder.open().encode(
            texts,
            self.prompt_name,
            self.prompt,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        # A single column is taken all the same; the tag stands for tables of several.
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []  # float32 in any case
        return tags


def texts_of(x: Any) -> list[str]:
    """The texts of a list, an array or a column, [n] or [n, 1].

    Raises
    ------
    TypeError
        Not a collection in an order, or an item that is not a str.
    ValueError
        Not of one column.
    """
    if isinstance(x, (str, bytes, dict, set)) or not hasattr(x, "__len__"):
        raise TypeError(f"X must be a list or a column of texts, not one {type(x).__name__}")
    column = np.asarray(x, dtype=object)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise ValueError(
            f"X must be one column of texts, [n] or [n, 1], and this is of shape {column.shape}; "
            "a ColumnTransformer gives each column a transformer of its own"
        )
    texts: list[str] = column.tolist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"X must hold texts; row {row} is {text!r:.60} of type {type(text).__name__}. "
                "Fill missing ones and turn others into str first"
            )
    return texts
