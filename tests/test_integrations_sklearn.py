"""`EncoderTransformer` among scikit-learn's own pipelines, searches, checks and containers."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vlt

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install '.[sklearn]'")

import joblib
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import InputTags
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from vlt.integrations.sklearn import EncoderTransformer

TEXTS = [
    "a man is running",
    "the quick red machine",
    "",
    "what can one dog do under the water, every river in the world and you?",
    "banana",
    "banana",
]
ANIMALS = ["a cheetah runs fast", "the dog sleeps", "horses eat grass", "a lion hunts at night"]
MONEY = ["the bank raised its rates", "shares fell today", "a loan for a house", "taxes are due"]


@pytest.fixture
def transformer(tiny_weights: Path) -> EncoderTransformer:
    return EncoderTransformer(tiny_weights)


# ---- Vectors -------------------------------------------------------------------------------------


def test_features_are_the_encoders_vectors(
    transformer: EncoderTransformer, tiny_encoder: vlt.Encoder
) -> None:
    assert transformer.fit(TEXTS) is transformer
    features = transformer.transform(TEXTS)
    assert features.dtype == np.float32
    assert features.shape == (6, 32)
    assert features.tobytes() == tiny_encoder.encode(TEXTS).tobytes()
    assert transformer.fit_transform(TEXTS).tobytes() == features.tobytes()
    assert transformer.transform([]).shape == (0, 32)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_name": "query"},
        {"prompt": "the paper : "},
        {"normalize_embeddings": True, "truncate_dim": 8},
    ],
)
def test_options_are_those_of_encode(
    tiny_weights: Path, tiny_encoder: vlt.Encoder, options: dict[str, Any]
) -> None:
    transformer = EncoderTransformer(tiny_weights, **options).fit(TEXTS)
    expected = tiny_encoder.encode(TEXTS, **options)
    assert transformer.transform(TEXTS).tobytes() == expected.tobytes()
    assert len(transformer.get_feature_names_out()) == expected.shape[1]


def test_options_of_the_encoder(tiny_weights: Path) -> None:
    transformer = EncoderTransformer(
        tiny_weights, max_length=5, num_threads=1, device="cpu", dtype="float32"
    )
    with vlt.Encoder(tiny_weights, max_length=5) as encoder:
        expected = encoder.encode(TEXTS)
    assert transformer.fit_transform(TEXTS).tobytes() == expected.tobytes()


def test_forms_of_texts(transformer: EncoderTransformer, tiny_encoder: vlt.Encoder) -> None:
    transformer.fit(TEXTS)
    expected = tiny_encoder.encode(TEXTS).tobytes()
    forms: list[Any] = [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array(TEXTS)[:, None],
        [[text] for text in TEXTS],
    ]
    for texts in forms:
        assert transformer.transform(texts).tobytes() == expected


def test_columns_of_pandas(transformer: EncoderTransformer, tiny_encoder: vlt.Encoder) -> None:
    pandas = pytest.importorskip("pandas")
    expected = tiny_encoder.encode(TEXTS).tobytes()
    index = [f"row {place}" for place in range(len(TEXTS))]
    for dtype in (object, "string", "category"):
        series = pandas.Series(TEXTS, index, dtype=dtype, name="text")
        assert transformer.fit(series).transform(series).tobytes() == expected
        assert transformer.fit(series.to_frame()).transform(series.to_frame()).tobytes() == expected


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        ("banana", TypeError, "list or a column of texts, not one str"),
        (7, TypeError, "not one int"),
        ({"a": 1}, TypeError, "not one dict"),
        (iter(TEXTS), TypeError, "not one list_iterator"),
        (["a", None], TypeError, "row 1 is None of type NoneType"),
        (["a", float("nan")], TypeError, "row 1 is nan of type float"),
        (["a", 3], TypeError, "row 1 is 3 of type int"),
        (["a", ["b", "c"]], TypeError, r"row 1 is \['b', 'c'\] of type list"),
        (np.zeros(3), TypeError, "row 0 is 0.0 of type float"),
        (np.array([["a", "b"]]), ValueError, r"shape \(1, 2\)"),
        ([("a", "b"), ("c", "d")], ValueError, r"shape \(2, 2\)"),
        (["a\ud800"], ValueError, "not valid Unicode"),
    ],
)
def test_what_is_no_column_of_texts_is_refused(
    transformer: EncoderTransformer, texts: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        transformer.fit(TEXTS).transform(texts)
    if "Unicode" not in words:  # which the encoder alone looks at
        with pytest.raises(error, match=words):
            transformer.fit(texts)


def test_wrong_settings_fail_in_fit(tiny_weights: Path, tmp_path: Path) -> None:
    for options, error, words in (
        ({"path": tmp_path / "nowhere"}, vlt.FileError, "there is no"),
        ({"prompt_name": "summary"}, ValueError, "'summary'"),
        ({"truncate_dim": 0}, ValueError, "truncate_dim"),
        ({"max_length": 65}, ValueError, "65"),
    ):
        parameters: dict[str, Any] = {"path": tiny_weights, **options}
        transformer = EncoderTransformer(**parameters)
        with pytest.raises(error, match=words):
            transformer.fit(TEXTS)
        with pytest.raises(NotFittedError):
            transformer.transform(TEXTS)


# ---- scikit-learn's rules ------------------------------------------------------------------------


def test_parameters_are_kept_as_they_came(tiny_weights: Path) -> None:
    prompt = "the paper : "
    transformer = EncoderTransformer(tiny_weights, prompt=prompt)
    parameters = transformer.get_params()
    assert parameters.pop("path") is tiny_weights
    assert parameters.pop("prompt") is prompt
    twin = clone(transformer.fit(TEXTS)).set_params(truncate_dim=4)
    assert twin.get_params() == {**transformer.get_params(), "truncate_dim": 4}
    with pytest.raises(NotFittedError):
        twin.transform(TEXTS)
    assert twin.fit_transform(TEXTS).shape == (6, 4)


class OfNumbers(EncoderTransformer):
    """Takes each row of a table of numbers for a text, since those are what the checks bring."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return super().fit(words_of(validate_data(self, X)))

    def transform(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().transform(words_of(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = InputTags()
        return tags


def words_of(rows: npt.NDArray[Any]) -> list[str]:
    return [" ".join(map(str, row)) for row in rows.tolist()]


def test_estimator_checks(tiny_weights: Path) -> None:
    """All that scikit-learn has for a transformer; for one of texts it has hardly any."""
    results = check_estimator(OfNumbers(tiny_weights, num_threads=1), on_skip=None)
    passed = [each["check_name"] for each in results if each["status"] == "passed"]
    others = {each["check_name"] for each in results if each["status"] != "passed"}
    assert len(passed) > 40
    assert others <= {"check_array_api_input"}  # skipped unless SciPy is told to know such arrays


def test_checks_of_texts(transformer: EncoderTransformer) -> None:
    with pytest.warns(SkipTestWarning, match="requires input"):
        results = check_estimator(transformer)
    assert {each["status"] for each in results} == {"passed"}


def test_names_and_data_frames(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    pandas = pytest.importorskip("pandas")
    transformer = EncoderTransformer(tiny_weights, truncate_dim=3).set_output(transform="pandas")
    series = pandas.Series(TEXTS, list("abcdef"), name="text")
    frame = transformer.fit_transform(series)
    assert list(frame.columns) == ["encodertransformer0", "encodertransformer1", frame.columns[2]]
    assert list(frame.columns) == transformer.get_feature_names_out().tolist()
    assert list(frame.index) == list(series.index)
    expected = tiny_encoder.encode(TEXTS, truncate_dim=3)
    assert frame.to_numpy().tobytes() == expected.tobytes()
    assert list(transformer.transform(TEXTS).index) == list(range(6))


# ---- Copies and other processes ------------------------------------------------------------------


def test_fitted_transformer_is_copied(transformer: EncoderTransformer) -> None:
    expected = transformer.fit_transform(TEXTS).tobytes()
    for twin in (copy.deepcopy(transformer), pickle.loads(pickle.dumps(transformer))):
        assert twin.transform(TEXTS).tobytes() == expected
        assert twin.get_feature_names_out().tolist() == transformer.get_feature_names_out().tolist()


READ_IN_ANOTHER_PROCESS = """
import sys, joblib
pipeline = joblib.load(sys.argv[1])
sys.stdout.buffer.write(pipeline.transform(sys.argv[2:]).tobytes())
"""


def test_fitted_pipeline_works_in_another_process(
    transformer: EncoderTransformer, tmp_path: Path
) -> None:
    pipeline = make_pipeline(transformer).fit(TEXTS)
    file = tmp_path / "pipeline.joblib"
    joblib.dump(pipeline, file)
    assert file.stat().st_size < 5000  # without the weights
    command = [sys.executable, "-c", READ_IN_ANOTHER_PROCESS, str(file), *TEXTS]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    assert found == pipeline.transform(TEXTS).tobytes()


def test_search_over_processes(tiny_weights: Path) -> None:
    texts, labels = ANIMALS + MONEY, [0] * 4 + [1] * 4
    pipeline = make_pipeline(EncoderTransformer(tiny_weights, num_threads=1), LogisticRegression())
    grid = {"encodertransformer__truncate_dim": [4, None], "logisticregression__C": [0.1, 10]}
    found = [
        GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs, error_score="raise").fit(texts, labels)
        for jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"].tolist() for search in found]
    assert scores[0] == scores[1]
    # The best one was fitted here, and goes to processes of its own.
    best = found[1].best_estimator_
    batches = [texts[:3], texts[3:]]
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(best.predict)(batch) for batch in batches)
    assert np.concatenate(parts).tolist() == best.predict(texts).tolist()


# ---- Inside pipelines ----------------------------------------------------------------------------


def test_memory_of_a_pipeline(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedding is done once; what was fitted then comes back from the disk."""
    texts, labels = ANIMALS + MONEY, [0] * 4 + [1] * 4
    pipeline = make_pipeline(
        EncoderTransformer(tiny_weights), LogisticRegression(), memory=str(tmp_path)
    )
    first = pipeline.fit(texts, labels).predict_proba(texts)
    with monkeypatch.context() as patch:
        patch.setattr(EncoderTransformer, "fit", None)
        pipeline.set_params(logisticregression__C=1.0).fit(texts, labels)
    assert pipeline.predict_proba(texts).tobytes() == first.tobytes()


def test_column_transformer(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"title": TEXTS, "body": TEXTS[::-1], "tag": list("abcabc")})
    columns = ColumnTransformer(
        [
            ("title", EncoderTransformer(tiny_weights), "title"),
            ("body", EncoderTransformer(tiny_weights, truncate_dim=4), ["body"]),
            ("tag", CountVectorizer(analyzer="char"), "tag"),
        ],
        sparse_threshold=0,
    )
    features = columns.fit_transform(table)
    assert features.shape == (6, 32 + 4 + 3)
    np.testing.assert_array_equal(features[:, :32], tiny_encoder.encode(TEXTS))
    body = tiny_encoder.encode(TEXTS[::-1], truncate_dim=4)
    np.testing.assert_array_equal(features[:, 32:36], body)
    assert columns.get_feature_names_out()[32] == "body__encodertransformer0"


def test_minilm_tells_animals_from_money(minilm_weights: Path) -> None:
    texts, labels = ANIMALS + MONEY, ["animals"] * 4 + ["money"] * 4
    pipeline = make_pipeline(EncoderTransformer(minilm_weights), LogisticRegression(C=10))
    assert cross_val_score(pipeline, texts, labels, cv=4).mean() == 1
    found = pipeline.fit(texts, labels).predict(["my cat chases mice", "the cost of credit"])
    assert found.tolist() == ["animals", "money"]
