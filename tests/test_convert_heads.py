"""Conversion of heads: of transformers' own models, of cross-encoders, of sparse encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_folders import FAMILIES, Sizes, make_splade, write_family_folder
from model_folders import VOCABULARY, add_sentence_transformers, read_json, write_json

from vlt.converter import ConversionError, convert
from vlt.safetensors_file import SafetensorsFile

HIDDEN, LABELS = 8, 5
SIZES = Sizes(1, HIDDEN, 2, 12, max_positions=34, num_labels=LABELS)
ALL_FAMILIES = pytest.mark.parametrize("family", sorted(FAMILIES))
ACTIVATIONS = {"albert": "tanh", "bert": "tanh", "camembert": "tanh", "deberta": "gelu",
               "deberta-v2": "gelu", "distilbert": "relu", "electra": "gelu", "mpnet": "tanh",
               "roberta": "tanh", "xlm-roberta": "tanh"}  # fmt: skip


def folder_with(path: Path, family: str, head: str | None, **options: Any) -> Path:
    return write_family_folder(path / "model", family, SIZES, seed=2, head=head, **options)


def converted(folder: Path) -> SafetensorsFile:
    return SafetensorsFile(convert(folder, folder.with_suffix(".bin")))


def update(path: Path, **fields: Any) -> None:
    config = {**(read_json(path) if path.exists() else {}), **fields}
    write_json(path, {key: value for key, value in config.items() if value is not None})


def heads_of(file: SafetensorsFile) -> dict[str, str]:
    return {key: value for key, value in file.metadata.items() if key.endswith("_head")}


def labels_of(file: SafetensorsFile) -> list[str]:
    labels = {key: value for key, value in file.metadata.items() if key.startswith("label.")}
    return [labels[f"label.{number}"] for number in range(len(labels))]


# ---- Own heads ----------------------------------------------------------------------------------


@ALL_FAMILIES
def test_labels_of_texts(tmp_path: Path, family: str) -> None:
    folder = folder_with(tmp_path, family, "sequence")
    file = converted(folder)
    steps = f"pool:cls dense:0:{ACTIVATIONS[family]} dense:1:identity"
    assert heads_of(file) == {"sequence_head": steps}
    assert labels_of(file) == [f"label {number}" for number in range(LABELS)]
    assert not {"problem", "pooling_include_prompt", "similarity"} & set(file.metadata)
    source = SafetensorsFile(folder / "model.safetensors")
    for number, name in enumerate(FAMILIES[family].sequence):
        for part in ("weight", "bias"):
            stored = file[f"sequence_head.dense.{number}.{part}"].array
            np.testing.assert_array_equal(stored, source[f"{name}.{part}"].array)


@ALL_FAMILIES
def test_labels_of_tokens(tmp_path: Path, family: str) -> None:
    file = converted(folder_with(tmp_path, family, "token"))
    assert heads_of(file) == {"token_head": "dense:0:identity"}
    assert file["token_head.dense.0.weight"].shape == (LABELS, HIDDEN)
    assert labels_of(file) == [f"label {number}" for number in range(LABELS)]


@ALL_FAMILIES
def test_answers_to_questions(tmp_path: Path, family: str) -> None:
    file = converted(folder_with(tmp_path, family, "question"))
    assert heads_of(file) == {"token_head": "dense:0:identity"}
    assert labels_of(file) == ["start", "end"]


@ALL_FAMILIES
def test_scores_of_words_beside_the_embedding(tmp_path: Path, family: str) -> None:
    folder = folder_with(tmp_path, family, "vocabulary", tokenizer=True)
    file = converted(folder)
    head = "dense:0:gelu_tanh" if family == "albert" else "dense:0:gelu"
    assert heads_of(file) == {
        "embedding_head": "pool:mean",
        "vocabulary_head": f"{head} norm:0 decoder",
    }
    assert file.metadata["mask_token"] == str(VOCABULARY.index("[MASK]"))
    assert "vocabulary_head.decoder.weight" not in file
    assert file["vocabulary_head.decoder.bias"].shape == (len(VOCABULARY),)


@pytest.mark.parametrize("architecture", ["BertModel", "BertForMaskedLM", None])
def test_an_encoder_alone_has_no_head_but_the_mean(
    tmp_path: Path, architecture: str | None
) -> None:
    folder = folder_with(tmp_path, "bert", None)
    update(folder / "config.json", architectures=[architecture] if architecture else None)
    assert heads_of(converted(folder)) == {"embedding_head": "pool:mean"}


@ALL_FAMILIES
def test_an_encoder_taken_from_a_model_of_masked_words(tmp_path: Path, family: str) -> None:
    folder = folder_with(tmp_path, family, "vocabulary")
    update(folder / "config.json", architectures=[FAMILIES[family].class_name + "Model"])
    assert heads_of(converted(folder)) == {"embedding_head": "pool:mean"}


def test_the_head_of_pre_training_is_that_of_masked_words(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bert", "vocabulary")
    update(folder / "config.json", architectures=["BertForPreTraining"])
    assert "vocabulary_head" in heads_of(converted(folder))


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"id2label": None, "num_labels": LABELS}, [f"LABEL_{number}" for number in range(LABELS)]),
        ({"id2label": {"1": "b", "0": "a", "3": "d", "2": "c", "4": "é"}}, list("abcdé")),
    ],
    ids=str,
)
def test_names_of_labels(tmp_path: Path, fields: dict[str, Any], labels: list[str]) -> None:
    folder = folder_with(tmp_path, "bert", "sequence")
    update(folder / "config.json", **fields)
    assert labels_of(converted(folder)) == labels


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("regression", "regression"),
        ("single_label_classification", "single_label"),
        ("multi_label_classification", "multi_label"),
    ],
)
def test_problems(tmp_path: Path, name: str, stored: str) -> None:
    folder = folder_with(tmp_path, "bert", "sequence")
    update(folder / "config.json", problem_type=name)
    assert converted(folder).metadata["problem"] == stored


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"problem_type": "ranking"}, 'problem_type is "ranking", expected one of regression'),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label is"),
        ({"id2label": ["a", "b"]}, "id2label is"),
        ({"id2label": {"0": "a\0"}}, "id2label is"),
        ({"id2label": {"0": 1}}, "id2label is"),
        ({"id2label": {"0": "a"}}, r"classifier\.weight has shape \[5, 8\], expected \[1, 8\]"),
        ({"architectures": "BertModel"}, "architectures is"),
    ],
    ids=str,
)
def test_heads_that_do_not_fit_are_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = folder_with(tmp_path, "bert", "sequence")
    update(folder / "config.json", **fields)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


def test_a_head_whose_weights_are_missing_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bert", None)
    update(folder / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(ConversionError, match=r"pooler\.dense\.weight is missing"):
        converted(folder)


# ---- Decoders -----------------------------------------------------------------------------------


@ALL_FAMILIES
def test_a_decoder_of_its_own(tmp_path: Path, family: str) -> None:
    folder = folder_with(tmp_path, family, "vocabulary", untied=True)
    source = SafetensorsFile(folder / "model.safetensors")[FAMILIES[family].decoder]
    stored = converted(folder)["vocabulary_head.decoder.weight"]
    np.testing.assert_array_equal(stored.array, source.array)


def test_a_decoder_that_differs_counts_whatever_the_configuration_says(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bert", "vocabulary", untied=True)
    update(folder / "config.json", tie_word_embeddings=True)
    assert "vocabulary_head.decoder.weight" in converted(folder)


def test_a_decoder_that_is_missing_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bert", "vocabulary")
    update(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(ConversionError, match=r"cls\.predictions\.decoder\.weight is missing"):
        converted(folder)


def test_deberta_has_two_ways_to_write_its_vocabulary_head(tmp_path: Path) -> None:
    older = converted(folder_with(tmp_path / "a", "deberta", "vocabulary"))
    newer = converted(
        folder_with(tmp_path / "b", "deberta", "vocabulary", config={"legacy": False})
    )
    assert heads_of(older) == heads_of(newer)
    assert older["vocabulary_head.dense.0.weight"].shape == (HIDDEN, HIDDEN)


# ---- The mask token -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "older", "expected"),
    [
        ({"mask_token": "dog"}, {}, "dog"),
        ({"mask_token": {"content": "dog", "lstrip": True}}, {}, "dog"),
        ({"mask_token": None}, {"mask_token": "cat"}, "cat"),
        ({"mask_token": None}, {"mask_token": {"content": "cat"}}, "cat"),
        ({"mask_token": None}, {}, "[MASK]"),
        ({"mask_token": "unheard of"}, {}, None),
    ],
    ids=str,
)
def test_mask_token(
    tmp_path: Path, settings: dict[str, Any], older: dict[str, Any], expected: str | None
) -> None:
    folder = folder_with(tmp_path, "bert", "vocabulary", tokenizer=True)
    update(folder / "tokenizer_config.json", **settings)
    write_json(folder / "special_tokens_map.json", older)
    found = converted(folder).metadata.get("mask_token")
    assert found == (None if expected is None else str(VOCABULARY.index(expected)))


def test_without_a_vocabulary_head_there_is_no_mask_token(tmp_path: Path) -> None:
    assert (
        "mask_token" not in converted(folder_with(tmp_path, "bert", None, tokenizer=True)).metadata
    )


# ---- Sparse encoders ----------------------------------------------------------------------------


@ALL_FAMILIES
@pytest.mark.parametrize("layout", ["legacy", "current"])
def test_splade(tmp_path: Path, family: str, layout: str) -> None:
    folder = folder_with(tmp_path, family, "vocabulary", tokenizer=True)
    make_splade(folder, layout=layout)
    file = converted(folder)
    assert list(heads_of(file)) == ["vocabulary_head"]
    assert (file.metadata["sparse"], file.metadata["similarity"]) == ("max", "dot")


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("1_SpladePooling/config.json", {"pooling_strategy": "sum"}, 'pooling_strategy is "sum"'),
        ("1_SpladePooling/config.json", {"activation_function": "log1p_relu"}, "takes the log"),
        ("1_SpladePooling/config.json", {"top_k": 3}, "top_k is 3, expected no such field"),
        ("sentence_bert_config.json", {"transformer_task": None}, "transformer_task is null"),
        ("sentence_bert_config.json", {"module_output_name": "scores"}, "module_output_name is"),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, "in a CrossEncoder"),
    ],
    ids=str,
)
def test_other_sparse_encoders_are_refused(
    tmp_path: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    folder = folder_with(tmp_path, "bert", "vocabulary")
    make_splade(folder)
    update(folder / file, **fields)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


def test_a_sparse_encoder_needs_a_vocabulary_head(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bert", None)
    make_splade(folder)
    with pytest.raises(
        ConversionError, match=r"cls\.predictions\.transform\.dense\.weight is miss"
    ):
        converted(folder)


# ---- Cross-encoders -----------------------------------------------------------------------------

IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


def cross_encoder(path: Path, num_labels: int = 1, *, modules: bool = False) -> Path:
    sizes = SIZES._replace(num_labels=num_labels)
    folder = write_family_folder(path / "model", "bert", sizes, seed=2, head="sequence")
    if modules:
        kind = "sentence_transformers.base.modules.transformer.Transformer"
        write_json(folder / "modules.json", [{"path": "", "type": kind}])
        texts = {"text": {"method": "forward", "method_output_name": "logits"}}
        settings: dict[str, Any] = {
            "transformer_task": "sequence-classification",
            "modality_config": texts,
            "module_output_name": "scores",
        }
        write_json(folder / "sentence_bert_config.json", settings)
    return folder


@pytest.mark.parametrize("modules", [False, True])
@pytest.mark.parametrize(
    ("num_labels", "activation", "problem"),
    [
        (1, IDENTITY, "regression"),
        (1, SIGMOID, "multi_label"),
        (1, None, "multi_label"),  # the sigmoid is the default of one score
        (3, None, None),
        (3, IDENTITY, None),
        (3, SIGMOID, "multi_label"),
    ],
)
def test_cross_encoders(
    tmp_path: Path, modules: bool, num_labels: int, activation: str | None, problem: str | None
) -> None:
    folder = cross_encoder(tmp_path, num_labels, modules=modules)
    settings: dict[str, Any] = {"model_type": "CrossEncoder", "activation_fn": activation}
    write_json(folder / "config_sentence_transformers.json", settings)
    file = converted(folder)
    assert list(heads_of(file)) == ["sequence_head"]
    assert file.metadata.get("problem") == problem


@pytest.mark.parametrize(
    "fields",
    [
        {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}},
        {"sbert_ce_default_activation_function": IDENTITY},
    ],
    ids=str,
)
def test_cross_encoders_of_older_versions(tmp_path: Path, fields: dict[str, Any]) -> None:
    folder = cross_encoder(tmp_path)
    update(folder / "config.json", **fields)
    assert converted(folder).metadata["problem"] == "regression"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation_fn": "torch.nn.modules.activation.Softmax"}, "activation_fn is .*Softmax"),
        ({"activation_fn": "my.Sigmoid"}, 'activation_fn is "my.Sigmoid"'),
        ({"prompts": {"query": "x"}}, "nothing before pairs"),
    ],
    ids=str,
)
def test_other_cross_encoders_are_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = cross_encoder(tmp_path)
    settings = {"model_type": "CrossEncoder", **fields}
    write_json(folder / "config_sentence_transformers.json", settings)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


# ---- Embedding folders --------------------------------------------------------------------------


@ALL_FAMILIES
@pytest.mark.parametrize("layout", ["legacy", "current"])
def test_sentence_transformers_of_every_family(tmp_path: Path, family: str, layout: str) -> None:
    folder = folder_with(tmp_path, family, None)
    dense = [(HIDDEN, 4, "torch.nn.modules.activation.Tanh", True)]
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {"hidden_size": HIDDEN, **config})
    add_sentence_transformers(folder, layout=layout, pooling=["cls"], dense=dense, normalize=True)
    assert heads_of(converted(folder)) == {"embedding_head": "pool:cls dense:0:tanh normalize"}


def test_an_embedding_folder_of_a_model_of_masked_words_has_no_vocabulary_head(
    tmp_path: Path,
) -> None:
    folder = folder_with(tmp_path, "roberta", "vocabulary")
    add_sentence_transformers(folder)
    assert heads_of(converted(folder)) == {"embedding_head": "pool:mean"}
