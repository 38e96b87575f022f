"""Conversion of every family: layouts of checkpoints, what is computed, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import model_folders
import numpy as np
import numpy.typing as npt
import pytest
from family_folders import FAMILIES, Sizes, write_family_folder
from model_folders import read_json, write_json
from numpy_reference import NumpyEncoder

from vlt.converter import ConversionError, convert, convert_to_memory
from vlt.safetensors_file import SafetensorsFile

HIDDEN, HEADS, VOCABULARY, POSITIONS = 12, 2, 40, 24
SIZES = Sizes(2, HIDDEN, HEADS, 10, VOCABULARY, POSITIONS)
BOTH_TERMS = {"pos_att_type": ["c2p", "p2c"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "albert": {"num_hidden_groups": 2},
    "deberta": BOTH_TERMS,
    "deberta-v2": {**BOTH_TERMS, "position_buckets": 8, "conv_kernel_size": 3},
}
ALL_FAMILIES = pytest.mark.parametrize("family", sorted(FAMILIES))

Array = npt.NDArray[Any]


def write_folder(path: Path, family: str, **options: Any) -> Path:
    config = {**CONFIGS.get(family, {}), **options.pop("config", {})}
    return write_family_folder(path, family, SIZES, seed=3, config=config, **options)


def converted(folder: Path, **options: Any) -> SafetensorsFile:
    return SafetensorsFile(convert(folder, folder.with_suffix(".bin"), **options))


def metadata_of(path: Path, family: str, **config: Any) -> dict[str, str]:
    return converted(write_folder(path / "model", family, config=config)).metadata


def weights_of(file: SafetensorsFile) -> dict[str, bytes]:
    return {name: file[name].array.tobytes() for name in file}


# ---- All families -------------------------------------------------------------------------------


@ALL_FAMILIES
def test_it_converts_and_means_something(tmp_path: Path, family: str) -> None:
    folder = write_folder(tmp_path / "model", family, tokenizer=True)
    convert(folder, tmp_path / "weights.bin")
    encoder = NumpyEncoder(tmp_path / "weights.bin")
    assert encoder.metadata["family"] == family
    assert encoder.metadata["embedding_head"] == "pool:mean"
    ids = np.arange(5, 15, dtype=np.int32)
    states = encoder.states(ids, np.array([0, 10], np.int32))
    assert states.shape == (10, HIDDEN)
    assert np.isfinite(states).all()


@ALL_FAMILIES
@pytest.mark.parametrize("layout", ["prefixed", "of another", "sharded", "legacy names"])
def test_checkpoints_of_every_layout_give_the_same_weights(
    tmp_path: Path, family: str, layout: str
) -> None:
    expected = weights_of(converted(write_folder(tmp_path / "plain", family)))
    options: dict[str, dict[str, Any]] = {
        "prefixed": {"prefix": f"{FAMILIES[family].base}."},
        "of another": {"prefix": "0.auto_model."},
        "sharded": {"num_shards": 3},
    }
    folder = write_folder(tmp_path / "model", family, **options.get(layout, {}))
    if layout == "legacy names":
        tensors = SafetensorsFile(folder / "model.safetensors")
        renamed = {_legacy_name(name): tensor for name, tensor in tensors.items()}
        model_folders.write_checkpoint(folder, renamed)
    assert weights_of(converted(folder)) == expected


def _legacy_name(name: str) -> str:
    """Norms as TensorFlow called them; those not called LayerNorm never were there."""
    name = re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", name)
    return re.sub(r"LayerNorm\.bias$", "LayerNorm.beta", name)


@ALL_FAMILIES
def test_weights_in_half_precision(tmp_path: Path, family: str) -> None:
    folder = write_folder(tmp_path / "model", family, dtype="BF16")
    computed = re.compile(r"relative_(keys|queries)$")
    kept = converted(folder, dtype="keep")
    for name, tensor in kept.items():
        if not name.startswith("_pad."):
            # What is computed was never in the checkpoint's format.
            assert tensor.dtype == ("F32" if computed.search(name) else "BF16"), name
    half = converted(folder, dtype="float16")
    assert {half[name].dtype for name in half if not name.startswith("_pad.")} == {"F16"}
    assert convert_to_memory(folder, dtype="float16").tobytes() == half.path.read_bytes()


@ALL_FAMILIES
def test_heads_without_a_name_are_refused(tmp_path: Path, family: str) -> None:
    folder = write_folder(tmp_path / "model", family, head="token")
    update(folder, architectures=[FAMILIES[family].class_name + "Model"])
    with pytest.raises(ConversionError, match=r"the tensor classifier\.weight is not part"):
        converted(folder)


@ALL_FAMILIES
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"is_decoder": True}, "is_decoder is true"),
        ({"auto_map": {"AutoModelForMaskedLM": "code.Model"}}, "auto_map is"),
        ({"vocab_size": VOCABULARY + 1}, r"word_embeddings.weight has shape \[40, "),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
    ],
    ids=str,
)
def test_what_no_family_honours_is_refused(
    tmp_path: Path, family: str, fields: dict[str, Any], message: str
) -> None:
    folder = write_folder(tmp_path / "model", family)
    update(folder, **fields)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


def update(folder: Path, **fields: Any) -> None:
    config = {**read_json(folder / "config.json"), **fields}
    write_json(folder / "config.json", {k: v for k, v in config.items() if v is not None})


# ---- One family each ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("roberta", {"embedding_size": 4}, "embedding_size is 4, expected 12"),
        ("roberta", {"pad_token_id": POSITIONS}, "max_position_embeddings is 24, expected more"),
        ("roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type is"),
        ("distilbert", {"activation": "mish"}, 'activation is "mish"'),
        ("distilbert", {"dim": None}, "lacks the field dim"),
        ("albert", {"num_hidden_groups": 3}, "num_hidden_groups is 3, expected at most"),
        ("albert", {"embedding_size": None}, "lacks the field embedding_size"),
        ("electra", {"embedding_size": 5}, r"embeddings_project.weight .* expected \[12, 5\]"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets is 16"),
        ("deberta", {"talking_head": True}, "talking_head is true"),
        ("deberta", {"pos_att_type": "c2p|p2p"}, 'pos_att_type is "c2p|p2p"'.replace("|", r"\|")),
        ("deberta", {"pos_att_type": ["c2p", "c2p"]}, "pos_att_type is"),
        ("deberta", {"embedding_size": 6}, "embedding_size is 6"),
        ("deberta", {"max_relative_positions": 7}, r"rel_embeddings.weight .* \[14, 12\]"),
        ("deberta", {"position_biased_input": 1}, "position_biased_input is 1"),
        ("deberta-v2", {"pos_att_type": ["p2p"]}, "pos_att_type is"),
        ("deberta-v2", {"conv_groups": 2}, "conv_groups is 2"),
        ("deberta-v2", {"conv_kernel_size": 2}, "conv_kernel_size is 2, expected an odd"),
        ("deberta-v2", {"conv_act": "mish"}, 'conv_act is "mish"'),
        ("deberta-v2", {"norm_rel_ebd": "batch_norm"}, 'norm_rel_ebd is "batch_norm"'),
        ("deberta-v2", {"share_att_key": True}, r"pos_\S+ is not part of the model"),
        ("deberta-v2", {"attention_head_size": 3}, "attention_head_size is 3, expected 6"),
        ("deberta-v2", {"max_relative_positions": 3}, "position_buckets is 8, expected -1, or"),
        ("deberta-v2", {"pooler_hidden_size": 6}, "pooler_hidden_size is 6"),
        ("deberta-v2", {"pooler_hidden_act": "mish"}, 'pooler_hidden_act is "mish"'),
    ],
    ids=str,
)
def test_settings_a_family_does_not_honour_are_refused(
    tmp_path: Path, family: str, fields: dict[str, Any], message: str
) -> None:
    folder = write_folder(tmp_path / "model", family)
    update(folder, **fields)
    with pytest.raises(ConversionError, match=message):
        converted(folder)


@pytest.mark.parametrize("pad", [None, 1, 4])
def test_roberta_counts_positions_from_behind_padding(tmp_path: Path, pad: int | None) -> None:
    metadata = metadata_of(tmp_path, "roberta", pad_token_id=pad)
    offset = 2 if pad is None else pad + 1
    assert metadata["position_offset"] == str(offset)
    assert metadata["max_length"] == str(POSITIONS - offset)


def test_families_without_token_types(tmp_path: Path) -> None:
    for family in ("distilbert", "mpnet", "deberta"):
        assert metadata_of(tmp_path / family, family)["num_token_types"] == "0"


@pytest.mark.parametrize(
    ("steps", "groups", "inner", "order"),
    [
        (2, 1, 1, "0 0"),
        (2, 2, 1, None),
        (5, 2, 1, "0 0 0 1 1"),
        (2, 1, 3, "0 1 2 0 1 2"),
        (3, 2, 2, "0 1 0 1 2 3"),
    ],
)
def test_albert_layers_take_turns(
    tmp_path: Path, steps: int, groups: int, inner: int, order: str | None
) -> None:
    folder = write_folder(
        tmp_path / "model",
        "albert",
        config={"num_hidden_groups": groups, "inner_group_num": inner},
    )
    update(folder, num_hidden_layers=steps)
    file = converted(folder)
    assert file.metadata.get("layer_order") == order
    assert file.metadata["num_layers"] == str(steps * inner)
    stored = {name.split(".")[1] for name in file if name.startswith("layers.")}
    assert stored == {str(layer) for layer in range(groups * inner)}


def test_electra_projects_embeddings_of_another_size_only(tmp_path: Path) -> None:
    projected = converted(write_folder(tmp_path / "small", "electra"))
    assert projected.metadata["embedding_size"] == "4"
    assert projected["embeddings.projection.weight"].shape == (HIDDEN, 4)
    same = write_folder(tmp_path / "same", "electra", config={"embedding_size": HIDDEN})
    assert "embedding_size" not in converted(same).metadata
    assert "embeddings.projection.weight" not in converted(same)


def test_albert_projects_always(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "albert", config={"embedding_size": HIDDEN})
    assert converted(folder).metadata["embedding_size"] == str(HIDDEN)


# ---- Distances ----------------------------------------------------------------------------------


def test_mpnet_biases_by_distance(tmp_path: Path) -> None:
    sizes = SIZES._replace(max_positions=202)
    folder = write_family_folder(tmp_path / "model", "mpnet", sizes, seed=3)
    table = SafetensorsFile(folder / "model.safetensors")["encoder.relative_attention_bias.weight"]
    bias = converted(folder)["attention.distance_bias"].array
    assert bias.shape == (HEADS, 2 * 200 - 1)

    def bucket(key_minus_query: int) -> int:
        (row,) = np.flatnonzero((table.array == bias[:, key_minus_query + 199]).all(axis=1))
        return int(row)

    # Borders of transformers' buckets: single distances to 7, then ranges by logarithm to 128.
    before = {0: 0, 1: 1, 7: 7, 8: 8, 11: 8, 12: 9, 15: 9, 16: 10, 22: 10, 23: 11, 31: 11, 32: 12,
              45: 12, 46: 13, 63: 13, 64: 14, 90: 14, 91: 15, 199: 15}  # fmt: skip
    assert {distance: bucket(-distance) for distance in before} == before
    behind = {distance: 16 + row for distance, row in before.items() if distance}
    assert {distance: bucket(distance) for distance in behind} == behind


def test_deberta_clips_distances(tmp_path: Path) -> None:
    metadata = metadata_of(tmp_path, "deberta", max_relative_positions=4)
    assert metadata["relative_terms"] == "keys queries"
    rows = [int(row) for row in metadata["relative_rows"].split(" ")]
    middle = POSITIONS - 1
    assert rows[middle - 5 : middle + 6] == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert len(rows) == 2 * POSITIONS - 1


def test_deberta_v2_puts_far_distances_into_buckets(tmp_path: Path) -> None:
    metadata = metadata_of(tmp_path, "deberta-v2")
    # 8 buckets on either side: of the distances to 4 one each, to 7, 12 and 23 one together.
    before = [0] * 11 + [1] * 5 + [2] * 3 + [3, 4, 5, 6]
    behind = [14 - row for row in reversed(before)]
    assert metadata["relative_rows"] == " ".join(map(str, [*before, 7, *behind]))


@pytest.mark.parametrize("form", ["p2c|c2p", " C2P | p2c", ["c2p", "p2c"], ["p2c", "c2p"]])
def test_terms_are_written_in_several_ways(tmp_path: Path, form: object) -> None:
    folder = write_folder(tmp_path / "model", "deberta-v2")
    update(folder, pos_att_type=form)
    assert converted(folder).metadata["relative_terms"] == "keys queries"


@pytest.mark.parametrize("family", ["deberta", "deberta-v2"])
@pytest.mark.parametrize(
    ("config", "num_terms", "stored"),
    [
        ({}, 2, "keys queries"),
        ({"pos_att_type": ["c2p"]}, 1, "keys"),
        ({"pos_att_type": ["p2c"]}, 1, "queries"),
        ({"relative_attention": False}, 2, None),
        ({"pos_att_type": []}, 0, None),
    ],
    ids=str,
)
def test_scores_are_scaled_by_the_number_of_terms(
    tmp_path: Path, family: str, config: dict[str, Any], num_terms: int, stored: str | None
) -> None:
    metadata = metadata_of(tmp_path, family, **config)
    root = np.sqrt(np.float32(HIDDEN / HEADS * (1 + num_terms)))  # transformers has it in float32
    assert float(metadata["score_scale"]) == 1 / float(root)
    assert metadata.get("relative_terms") == stored
    assert ("relative_rows" in metadata) == (stored is not None)


def test_deberta_stacks_queries_keys_and_values(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "deberta")
    source = SafetensorsFile(folder / "model.safetensors")
    at = "encoder.layer.1.attention.self"
    file = converted(folder)
    size = HIDDEN // HEADS
    by_head = source[f"{at}.in_proj.weight"].array.reshape(HEADS, 3, size, HIDDEN)
    expected = np.concatenate([by_head[:, kind].reshape(HIDDEN, HIDDEN) for kind in range(3)])
    np.testing.assert_array_equal(file["layers.1.attention.qkv.weight"].array, expected)
    queries, values = source[f"{at}.q_bias"].array, source[f"{at}.v_bias"].array
    bias = np.concatenate([queries, np.zeros(HIDDEN, np.float32), values])
    np.testing.assert_array_equal(file["layers.1.attention.qkv.bias"].array, bias)


def test_deberta_computes_keys_and_queries_of_distances(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "deberta")
    source = SafetensorsFile(folder / "model.safetensors")
    table = source["encoder.rel_embeddings.weight"].array.astype(np.float64)[::-1]
    at = "encoder.layer.1.attention.self"
    keys = table @ source[f"{at}.pos_proj.weight"].array.T
    queries = (
        table @ source[f"{at}.pos_q_proj.weight"].array.T + source[f"{at}.pos_q_proj.bias"].array
    )
    file = converted(folder)
    for role, exact in (("relative_keys", keys), ("relative_queries", queries)):
        stored = file[f"layers.1.attention.{role}"].array
        np.testing.assert_allclose(stored, exact, rtol=2.0**-23, atol=1e-12)


def test_positions_that_are_not_added_may_be_there(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "deberta-v2")
    update(folder, position_biased_input=False)
    file = converted(folder)
    assert file.metadata["position_kind"] == "none"
    assert "embeddings.position" not in file


def test_the_convolution_is_laid_out_by_token(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "deberta-v2")
    weight = SafetensorsFile(folder / "model.safetensors")["encoder.conv.conv.weight"].array
    file = converted(folder)
    assert (file.metadata["convolution"], file.metadata["convolution_activation"]) == ("3", "tanh")
    expected = np.concatenate([weight[:, :, k] for k in range(3)], axis=1)
    np.testing.assert_array_equal(file["convolution.weight"].array, expected)
