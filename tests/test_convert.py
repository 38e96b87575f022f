"""Conversion of BERT folders: every weight arrives, and whatever vlt does not honour is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_folders
import numpy as np
import pytest

from vlt import dtypes
from vlt.converter import ConversionError, convert, convert_to_memory
from vlt.safetensors_file import SafetensorsFile, Tensor

NUM_LAYERS = 2
HIDDEN, INNER, VOCABULARY, POSITIONS = 8, 12, len(model_folders.VOCABULARY), 32


def write_folder(path: Path, **options: Any) -> Path:
    sizes = {
        "num_layers": NUM_LAYERS,
        "hidden_size": HIDDEN,
        "num_heads": 2,
        "intermediate_size": INNER,
        "max_positions": POSITIONS,
    }
    return model_folders.write_bert_folder(path, seed=1, **{**sizes, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model")


def converted(folder: Path, **options: Any) -> SafetensorsFile:
    return SafetensorsFile(convert(folder, folder.parent / "weights.bin", **options))


def expected_weights() -> dict[str, model_folders.Array]:
    """The source's weights under the names of the weights file, written out by hand."""
    source = model_folders.random_bert_tensors(
        seed=1,
        num_layers=NUM_LAYERS,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        vocab_size=VOCABULARY,
        max_positions=POSITIONS,
        num_token_types=2,
        pooler=True,
    )
    roles = {
        "embeddings.word": source["embeddings.word_embeddings.weight"],
        "embeddings.position": source["embeddings.position_embeddings.weight"],
        "embeddings.token_type": source["embeddings.token_type_embeddings.weight"],
    }
    for part in ("weight", "bias"):
        roles[f"embeddings.norm.{part}"] = source[f"embeddings.LayerNorm.{part}"]
        for layer in range(NUM_LAYERS):
            new, old = f"layers.{layer}", f"encoder.layer.{layer}"
            roles[f"{new}.attention.qkv.{part}"] = np.concatenate(
                [
                    source[f"{old}.attention.self.{name}.{part}"]
                    for name in ("query", "key", "value")
                ]
            )
            for role, name in (
                ("attention.output", "attention.output.dense"),
                ("attention.norm", "attention.output.LayerNorm"),
                ("ffn.up", "intermediate.dense"),
                ("ffn.down", "output.dense"),
                ("ffn.norm", "output.LayerNorm"),
            ):
                roles[f"{new}.{role}.{part}"] = source[f"{old}.{name}.{part}"]
    return roles


def assert_weights(file: SafetensorsFile, dtype: str, source_dtype: str = "F32") -> None:
    expected = expected_weights()
    extra = {"tokenizer.json"}
    assert {name for name in file if not name.startswith("_pad.")} == set(expected) | extra
    for name, array in expected.items():
        assert (file[name].dtype, file[name].shape) == (dtype, array.shape), name
        source = dtypes.to_float32(dtypes.from_float32(array, source_dtype), source_dtype)
        stored = dtypes.from_float32(source, dtype)
        assert file[name].array.tobytes() == stored.tobytes(), name


# ---- Weights ------------------------------------------------------------------------------------


def test_every_weight_arrives_to_the_bit(folder: Path) -> None:
    assert_weights(converted(folder), "F32")


@pytest.mark.parametrize(
    "options",
    [
        {"num_shards": 3},
        {"prefix": "bert."},
        {"prefix": "0.auto_model."},
        {"legacy_names": True},
        {"prefix": "bert.", "legacy_names": True, "num_shards": 2},
        {"pooler": False},
    ],
    ids=str,
)
def test_checkpoints_of_every_layout_give_the_same_weights(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    assert_weights(converted(write_folder(tmp_path / "model", **options)), "F32")


@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16"), ("keep", None)],
)
def test_weights_are_stored_in_the_format_asked_for(
    tmp_path: Path, source: str, dtype: str, stored: str | None
) -> None:
    folder = write_folder(tmp_path / "model", dtype=source)
    assert_weights(converted(folder, dtype=dtype), stored or source, source)


def test_parts_of_different_formats_are_kept_as_float32(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", dtype="F16")
    tensors = dict(SafetensorsFile(folder / "model.safetensors"))
    name = "encoder.layer.0.attention.self.key.weight"
    tensors[name] = model_folders.as_tensor(tensors[name].to_float32(), "BF16")
    model_folders.write_checkpoint(folder, tensors)
    file = converted(folder, dtype="keep")
    fused = file["layers.0.attention.qkv.weight"]
    assert fused.dtype == "F32"
    np.testing.assert_array_equal(fused.array[HIDDEN : 2 * HIDDEN], tensors[name].to_float32())


def test_bytes_in_memory_are_those_of_the_file(folder: Path) -> None:
    path = convert(folder, folder.parent / "weights.bin", dtype="bfloat16")
    assert convert_to_memory(folder, dtype="bfloat16").tobytes() == path.read_bytes()


def test_the_official_library_opens_the_file_and_finds_it_aligned(folder: Path) -> None:
    official = pytest.importorskip("safetensors")
    path = convert(folder, folder.parent / "weights.bin", dtype="float16")
    with official.safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "vlt"
        for name, array in expected_weights().items():
            np.testing.assert_array_equal(file.get_tensor(name), array.astype(np.float16))
    raw = path.read_bytes()
    file_start = 8 + int.from_bytes(raw[:8], "little")
    ours = SafetensorsFile(path)
    for name in ours:
        if not name.startswith("_pad.") and ours[name].array.size:
            assert raw.index(ours[name].array.tobytes(), file_start) % 64 == 0, name


# ---- Metadata -----------------------------------------------------------------------------------


def test_metadata_describes_the_architecture(folder: Path) -> None:
    assert converted(folder).metadata == {
        "format": "vlt",
        "format_version": "1",
        "family": "bert",
        "num_layers": "2",
        "hidden_size": "8",
        "num_heads": "2",
        "head_size": "4",
        "intermediate_size": "12",
        "vocab_size": str(VOCABULARY),
        "num_positions": "32",
        "num_token_types": "2",
        "position_offset": "0",
        "position_kind": "absolute",
        "norm_kind": "layernorm",
        "norm_place": "post",
        "norm_eps": "1e-12",
        "activation": "gelu",
        "embedding_head": "pool:mean",
        "max_length": "32",
        "pooling_include_prompt": "true",
        "lower_case": "false",
        "name": "model",
    }


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("gelu_fast", "gelu_tanh"),
        ("relu", "relu"),
        ("silu", "silu"),
        ("swish", "silu"),
    ],
)
def test_activations(tmp_path: Path, name: str, stored: str) -> None:
    folder = write_folder(tmp_path / "model", activation=name)
    assert converted(folder).metadata["activation"] == stored


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.001, 1])
def test_norm_eps_survives(tmp_path: Path, eps: float) -> None:
    folder = write_folder(tmp_path / "model", norm_eps=eps)
    assert float(converted(folder).metadata["norm_eps"]) == eps


def test_what_transformers_has_a_default_for_may_be_absent(tmp_path: Path) -> None:
    absent = dict.fromkeys(["hidden_act", "layer_norm_eps", "type_vocab_size"])
    metadata = converted(write_folder(tmp_path / "model", config=absent)).metadata
    assert (metadata["activation"], metadata["norm_eps"]) == ("gelu", "1e-12")
    assert metadata["num_token_types"] == "2"


# ---- config.json that must be refused -----------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": None}, "lacks the field model_type"),
        ({"model_type": "mamba"}, 'model_type is "mamba", expected one of albert, bert'),
        ({"position_embedding_type": "relative_key"}, 'position_embedding_type is "relative_key"'),
        ({"is_decoder": True}, "is_decoder is true"),
        ({"is_causal": True}, "is_causal is true"),
        ({"add_cross_attention": True}, "add_cross_attention is true"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"embedding_size": 4}, "embedding_size is 4, expected 8"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map is"),
        ({"hidden_act": "quick_gelu"}, 'hidden_act is "quick_gelu", expected one of gelu, '),
        ({"hidden_act": 1}, "hidden_act is 1, expected a string"),
        ({"hidden_size": None}, "lacks the field hidden_size"),
        ({"hidden_size": 8.0}, "hidden_size is 8.0, expected an integer"),
        ({"num_attention_heads": 3}, "hidden_size is 8, expected a multiple .* 3"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, expected an integer, at least 1"),
        ({"num_hidden_layers": True}, "num_hidden_layers is true"),
        ({"intermediate_size": None}, "lacks the field intermediate_size"),
        ({"vocab_size": "126"}, 'vocab_size is "126"'),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0, expected a number above 0"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is NaN"),
        ({"layer_norm_eps": 1e-50}, "layer_norm_eps is 1e-50"),
        pytest.param({"layer_norm_eps": 10**400}, "layer_norm_eps is 1000", id="eps of 400 digits"),
        ({"layer_norm_eps": "1e-12"}, 'layer_norm_eps is "1e-12"'),
    ],
    ids=str,
)
def test_configurations_vlt_does_not_honour_are_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = write_folder(tmp_path / "model", config=config)
    with pytest.raises(ConversionError, match=message) as refusal:
        convert(folder, tmp_path / "weights.bin")
    assert str(folder / "config.json") in str(refusal.value)
    assert not (tmp_path / "weights.bin").exists()


def test_harmless_fields_are_accepted(tmp_path: Path) -> None:
    config = {
        "is_decoder": False,
        "pruned_heads": {},
        "position_embedding_type": "absolute",
        "auto_map": {"AutoTokenizer": "code.Tokenizer"},
        "hidden_dropout_prob": 0.1,
    }
    assert_weights(converted(write_folder(tmp_path / "model", config=config)), "F32")


# ---- Checkpoints that must be refused -----------------------------------------------------------

FLOATS = Tensor("F32", np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 100}, r"word_embeddings.weight has shape \[126, 8\], expected \[100, 8\]"),
        ({"type_vocab_size": 1}, r"token_type_embeddings.weight has shape \[2, 8\]"),
        ({"max_position_embeddings": 31}, r"position_embeddings.weight .* expected \[31, 8\]"),
        ({"intermediate_size": 13}, r"layer.0.intermediate.dense.weight .* expected \[13, 8\]"),
        ({"num_hidden_layers": 3}, r"encoder.layer.2.attention.self.query.weight is missing"),
        ({"num_hidden_layers": 1}, r"encoder.layer.1.\S+ is not part of the model"),
    ],
    ids=str,
)
def test_tensors_must_match_the_configuration(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        converted(write_folder(tmp_path / "model", config=config))


@pytest.mark.parametrize(
    "name", ["cls.predictions.bias", "bert.pooler.dense.weight", "bert.embeddings.position_ids"]
)
def test_weights_no_token_passes_through_are_skipped(tmp_path: Path, name: str) -> None:
    folder = write_folder(
        tmp_path / "model", prefix="bert.", pooler=False, extra_tensors={name: FLOATS}
    )
    assert_weights(converted(folder), "F32")


@pytest.mark.parametrize(
    "name", ["classifier.weight", "encoder.layer.0.attention.self.distance_embedding.weight"]
)
def test_other_weights_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "model", extra_tensors={name: FLOATS})
    with pytest.raises(ConversionError, match=f"the tensor {re.escape(name)} is not part"):
        converted(folder)


def test_weights_must_be_floating_point(tmp_path: Path) -> None:
    bias = Tensor("I64", np.ones(HIDDEN, np.int64))
    name = "embeddings.LayerNorm.bias"
    folder = write_folder(tmp_path / "model", extra_tensors={name: bias})
    with pytest.raises(ConversionError, match=f"{name} has dtype I64, expected F32 or F16 or BF16"):
        converted(folder)


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", extra_tensors={"embeddings.LayerNorm.gamma": FLOATS})
    with pytest.raises(ConversionError, match=r"embeddings\.LayerNorm\.gamma .* is also there as"):
        converted(folder)


def test_two_models_in_one_checkpoint_are_refused(tmp_path: Path) -> None:
    other = {"other.embeddings.word_embeddings.weight": FLOATS}
    folder = write_folder(tmp_path / "model", extra_tensors=other)
    with pytest.raises(ConversionError, match=r"2 tensors are named .*word_embeddings"):
        converted(folder)


def test_a_weight_too_large_for_float16_is_named(tmp_path: Path) -> None:
    large = Tensor("F32", np.full(HIDDEN, 7e4, np.float32))
    folder = write_folder(tmp_path / "model", extra_tensors={"embeddings.LayerNorm.bias": large})
    with pytest.raises(ConversionError, match=r"embeddings\.norm\.bias'.* 70000 .*float16"):
        converted(folder, dtype="float16")
    with pytest.raises(ConversionError, match=r"embeddings\.norm\.bias"):
        convert_to_memory(folder, dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    converted(folder, dtype="bfloat16")


# ---- Folders that must be refused ---------------------------------------------------------------


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


def only_pytorch(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


SHARD = "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("config.json"), "has no config.json"),
        (write("config.json", "{"), r"config\.json cannot be read as JSON"),
        (write("config.json", f'{{"a": {"9" * 5000}}}'), r"config\.json cannot be read as JSON"),
        (write("config.json", "[]"), r"config\.json holds \[\], expected a JSON object"),
        (write("adapter_config.json", "{}"), "merge the adapter"),
        (remove("model.safetensors"), "looked for model.safetensors and model.safetensors.index"),
        (only_pytorch, r"pytorch_model\.bin only; .*save_pretrained"),
        (cut("model.safetensors"), r"model\.safetensors is not a valid .* cut short"),
    ],
)
def test_incomplete_folders_are_refused(
    folder: Path, change: Callable[[Path], object], message: str
) -> None:
    change(folder)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove(SHARD), f"{SHARD} does not exist: the checkpoint is incomplete"),
        (cut(SHARD), f"{SHARD} is not a valid safetensors file: the file is cut short"),
        (write(INDEX, "{}"), "weight_map is null"),
        (write(INDEX, '{"weight_map": {"a": "../b"}}'), r"puts a in '\.\./b'"),
        (write(INDEX, '{"weight_map": {"a": 1}}'), "puts a in 1"),
        (write(INDEX, f'{{"weight_map": {{"absent": "{SHARD}"}}}}'), "absent in .* lacks it"),
    ],
)
def test_incomplete_shards_are_refused(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = write_folder(tmp_path / "model", num_shards=2)
    change(folder)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


def test_a_path_that_is_no_folder_is_refused(folder: Path) -> None:
    for path in (folder / "absent", folder / "config.json"):
        with pytest.raises(ConversionError, match=f"{path} is no folder"):
            convert(path, folder / "weights.bin")


def test_an_unknown_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(ConversionError, match="'int4', expected one of float32, float16"):
        converted(folder, dtype="int4")


def test_the_models_own_weights_are_not_overwritten(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ConversionError, match="the model's own weights"):
        convert(folder, folder / "model.safetensors")
    assert (folder / "model.safetensors").read_bytes() == before
