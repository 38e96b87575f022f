"""What the modules for other libraries share, and that vlt itself needs none of these."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import vlt
from vlt.integrations.portable import Portable

# Module of vlt.integrations, what it imports, the package that has it, the extra.
MODULES = [
    ("langchain", "langchain_core", "langchain-core", "langchain"),
    ("llama_index", "llama_index.core", "llama-index-core", "llama-index"),
    ("sklearn", "sklearn", "scikit-learn", "sklearn"),
]


def test_vlt_loads_none_of_them() -> None:
    code = (
        "import sys, vlt, vlt.cli, vlt.converter; "
        "print([name for name in ('vlt.integrations', 'vlt.ray', 'langchain_core', 'llama_index', "
        "'pydantic', 'ray', 'sklearn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(("module", "imported", "package", "extra"), MODULES)
def test_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, imported: str, package: str, extra: str
) -> None:
    for name in list(sys.modules):
        if name == imported or name.startswith((f"{imported}.", f"vlt.integrations.{module}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, imported, None)
    with pytest.raises(ImportError, match=rf"needs the package {package} .*'\.\[{extra}\]'"):
        importlib.import_module(f"vlt.integrations.{module}")


def test_every_extra_is_declared() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    for _, _, package, extra in MODULES:
        assert f'\n{extra} = ["{package}>=' in project


# ---- Encoders that travel ------------------------------------------------------------------------


def test_settings_travel_and_the_handle_does_not(tiny_weights: Path) -> None:
    portable = Portable(vlt.Encoder, tiny_weights, max_length=5)
    encoder = portable.open()
    assert portable.open() is encoder
    content = pickle.dumps(portable)
    assert len(content) < 1000
    arrived = pickle.loads(content).open()
    assert arrived is not encoder
    assert arrived.max_seq_length == 5
    assert arrived.encode("banana").tobytes() == encoder.encode("banana").tobytes()


def test_weights_in_memory_travel(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    arrived = pickle.loads(pickle.dumps(Portable(vlt.Encoder, tiny_weights.read_bytes())))
    found = arrived.open().encode("banana")
    assert found.tobytes() == tiny_encoder.encode("banana").tobytes()


def test_copies_within_a_process_share_the_weights(tiny_weights: Path) -> None:
    portable = Portable(vlt.Encoder, tiny_weights)
    for twin in (copy.copy(portable), copy.deepcopy(portable)):
        assert twin.open() is portable.open()


def test_wrong_settings_fail_at_once(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(vlt.FileError, match="there is no"):
        Portable(vlt.Encoder, tmp_path / "nowhere")
    with pytest.raises(vlt.UnsupportedError, match="CrossEncoder needs"):
        Portable(vlt.CrossEncoder, tiny_weights)
