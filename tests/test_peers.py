"""The classes for tasks give what transformers and sentence-transformers give, where these are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headed_models import TAGS

import vlt
from vlt.safetensors_file import SafetensorsFile

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")
sentence_transformers: Any = pytest.importorskip("sentence_transformers")

TEXTS = [
    "a man is running",
    "The quick red machine!",
    "what can one dog do under the water, every river in the world and you?",
    "banana",
    "can 2 dogs run? no.",
]
PAIRS = [
    ("a man", "every river in the world"),
    ("what can one dog do under the water, every river in the world and you?", "banana"),
    (
        "who",
        "every large machine and the little man can run fast " * 2,
    ),
    ("a", "b"),
]

# Scores agree to what float32 loses on the way: some hundred roundings of numbers about 1.
CLOSE = 100 * float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(str(tiny_folder), model_max_length=24)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Reference(torch.nn.Module):  # type: ignore[misc]
    """A head of `headed_models` in torch, on transformers' BERT."""

    def __init__(self, folder: Path, path: Path, key: str) -> None:
        super().__init__()
        self.bert = transformers.AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
        self.tensors = {
            name: torch.from_numpy(tensor.to_float32().copy())
            for name, tensor in SafetensorsFile(path).items()
            if name.startswith((key, "embeddings.word"))
        }
        self.key = key

    def linear(self, states: Any, name: str) -> Any:
        weight, bias = (self.tensors[f"{self.key}.{name}.{part}"] for part in ("weight", "bias"))
        return torch.nn.functional.linear(states, weight, bias)

    def forward(self, **inputs: Any) -> Any:
        states = self.bert(**inputs).last_hidden_state
        if self.key == "sequence_head":
            return self.linear(torch.tanh(self.linear(states[:, 0], "dense.0")), "dense.1")
        hidden = self.linear(states, "dense.0")
        if self.key == "token_head":
            return hidden
        norm = [self.tensors[f"{self.key}.norm.0.{part}"] for part in ("weight", "bias")]
        hidden = torch.nn.functional.layer_norm(
            torch.nn.functional.gelu(hidden), (hidden.shape[-1],), *norm, eps=1e-12
        )
        bias = self.tensors[f"{self.key}.decoder.bias"]
        return torch.nn.functional.linear(hidden, self.tensors["embeddings.word"], bias)


def assert_alike(found: Any, expected: Any) -> None:
    """Equal but for the last digits of numbers."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key in expected:
            assert_alike(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float | np.floating):
        assert found == pytest.approx(float(expected), rel=CLOSE, abs=CLOSE)
    else:
        assert found == expected


def pipeline_of(kind: str, tokenizer: Any, labels: list[str]) -> Any:
    """A pipeline of transformers without a model, for what goes before and after one."""
    pipeline = object.__new__(getattr(transformers, kind))
    pipeline.tokenizer = tokenizer
    config = transformers.PretrainedConfig(
        id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)}
    )
    pipeline.model = type("Model", (), {"config": config})()
    return pipeline


# ---- Pairs ---------------------------------------------------------------------------------------


def test_pairs_are_scored_alike(
    headed: Callable[..., Path], tiny_folder: Path, tokenizer: Any
) -> None:
    path = headed("rerank")
    model = Reference(tiny_folder, path, "sequence_head")
    inputs = tokenizer(
        [list(pair) for pair in PAIRS],
        padding=True,
        truncation="longest_first",
        return_tensors="pt",
    )
    assert inputs["input_ids"].shape[1] == 24
    with vlt.CrossEncoder(path, device="cpu") as encoder:
        assert encoder.tokenize(PAIRS) == [
            row[: int(count)].tolist()
            for row, count in zip(
                inputs["input_ids"], inputs["attention_mask"].sum(dim=1), strict=True
            )
        ]
        logits = model(**inputs)[:, 0]
        expected = torch.sigmoid(logits).numpy()
        np.testing.assert_allclose(encoder.predict(PAIRS), expected, rtol=CLOSE, atol=CLOSE)
        raw = encoder.predict(PAIRS, activation_fn=torch.nn.Identity())
        np.testing.assert_allclose(raw, logits.numpy(), rtol=CLOSE, atol=CLOSE)
        tensor = encoder.predict(PAIRS, convert_to_tensor=True)
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=CLOSE, atol=CLOSE)


# ---- Labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rerank", None),
        ("regression", "regression"),
        ("moods", None),
        ("topics", "multi_label_classification"),
    ],
)
def test_texts_are_labelled_alike(
    headed: Callable[..., Path],
    tiny_folder: Path,
    tokenizer: Any,
    name: str,
    problem: str | None,
) -> None:
    path = headed(name)
    model = Reference(tiny_folder, path, "sequence_head")
    with vlt.Classifier(path, device="cpu") as classifier:
        pipeline = pipeline_of("TextClassificationPipeline", tokenizer, classifier.labels)
        pipeline.model.config.problem_type = problem
        found = classifier.predict(TEXTS), classifier.predict(TEXTS, top_k=None)
    for index, text in enumerate(TEXTS):
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        outputs = {"logits": model(**inputs)}
        assert_alike(found[0][index], pipeline.postprocess(outputs))
        assert_alike(found[1][index], pipeline.postprocess(outputs, top_k=None, _legacy=False))


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_tokens_are_labelled_alike(
    headed: Callable[..., Path], tiny_folder: Path, tokenizer: Any, strategy: str
) -> None:
    path = headed("tags")
    model = Reference(tiny_folder, path, "token_head")
    pipeline = pipeline_of("TokenClassificationPipeline", tokenizer, list(TAGS))
    texts = [*TEXTS, "a man ☃ unknown", ""]
    with vlt.Classifier(path, device="cpu") as classifier:
        found = classifier.classify_tokens(texts, strategy)  # type: ignore[arg-type]
    for text, entities in zip(texts, found, strict=True):
        inputs = next(pipeline.preprocess(text, is_split_into_words=False))
        kept = {name: inputs[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
        expected = pipeline.postprocess(
            [{**inputs, "logits": model(**kept)}],
            transformers.pipelines.token_classification.AggregationStrategy[strategy.upper()],
        )
        assert_alike(entities, expected)


# ---- Words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [None, ["red", "blue", "dog"]])
def test_gaps_are_filled_alike(
    headed: Callable[..., Path], tiny_folder: Path, tokenizer: Any, targets: list[str] | None
) -> None:
    path = headed("words")
    model = Reference(tiny_folder, path, "vocabulary_head")
    pipeline = pipeline_of("FillMaskPipeline", tokenizer, [])
    options = {} if targets is None else {"target_ids": pipeline.get_target_ids(targets)}
    texts = ["the [MASK] dog runs.", "a [MASK] can [MASK] in the river", "[MASK]"]
    with vlt.FillMask(path, device="cpu") as filler:
        found = filler.fill(texts, targets=targets)
    for text, words in zip(texts, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        outputs = {"logits": model(**inputs), "input_ids": inputs["input_ids"]}
        assert_alike(words, pipeline.postprocess(outputs, **options))


def test_sparse_vectors_are_alike(
    headed: Callable[..., Path], tiny_folder: Path, tokenizer: Any
) -> None:
    path = headed("splade")
    model = Reference(tiny_folder, path, "vocabulary_head")
    pooling = sentence_transformers.sparse_encoder.modules.SpladePooling()
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    features = {"token_embeddings": model(**inputs), "attention_mask": inputs["attention_mask"]}
    expected = pooling(features)["sentence_embedding"]
    with vlt.SparseEncoder(path, device="cpu") as encoder:
        found = encoder.encode(TEXTS)
        few = encoder.encode(TEXTS, max_active_dims=5)
    np.testing.assert_allclose(found.to_dense(), expected.numpy(), rtol=CLOSE, atol=CLOSE)
    kept = sentence_transformers.util.select_max_active_dims(expected, 5)
    np.testing.assert_allclose(few.to_dense(), kept.numpy(), rtol=CLOSE, atol=CLOSE)
    np.testing.assert_array_equal(found.to_scipy().toarray(), found.to_dense())
