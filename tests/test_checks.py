"""The checks of tools/ pass on this tree, and each fails on what it is there to find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlt import _native

ROOT = Path(__file__).parents[1]
HEADER = "cpp/include/vlt.h"
NATIVE = "python/vlt/_native.py"


def run_check(name: str, *arguments: str | Path) -> tuple[int, str]:
    """Exit code of one check and all that it printed."""
    command = [sys.executable, ROOT / "tools" / name, *arguments]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the parts of the tree that the checks read."""
    for folder in ("cpp", "python"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


@pytest.mark.parametrize("name", ["check_dependencies.py", "check_native_header.py"])
def test_tree_passes(name: str) -> None:
    assert run_check(name) == (0, "")


def test_library_passes() -> None:
    if not shutil.which("nm"):
        pytest.skip("no nm to list symbols with")
    assert run_check("check_exports.py", _native.library_path()) == (0, "")


def test_leaked_and_missing_exports_are_found(tmp_path: Path) -> None:
    if not shutil.which("cc") or not shutil.which("nm"):
        pytest.skip("no C compiler or no nm")
    source, library = tmp_path / "leak.c", tmp_path / "libleak.so"
    source.write_text("int vlt_abi_version(void) { return 1; }\nint leaked = 2;\n")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    code, output = run_check("check_exports.py", library)
    assert code == 1
    assert "exports leaked" in output
    assert "does not export vlt_run" in output
    assert "vlt_abi_version" not in output


# file, a line to add to it, words of the report
FORBIDDEN = [
    ("cpp/allocator/arena.h", '#include "base/error.h"', "cpp/allocator may include"),
    ("cpp/model/utf8.h", '#include "encoder/session.h"', "cpp/model may include"),
    ("cpp/model/utf8.h", '#include "kernels/cpu/thread_team.h"', "cpp/model may include"),
    ("cpp/model/utf8.h", '#include "vlt.h"', "cpp/model may include"),
    ("cpp/encoder/session.h", '#include "kernels/cpu/thread_team.h"', "cpp/encoder may include"),
    ("cpp/kernels/cpu/rows.h", '#include "model/model.h"', "cpp/kernels/cpu may include"),
    ("cpp/kernels/cpu/rows.h", '  #  include "base/error.h"', "cpp/kernels/cpu may include"),
    ("cpp/api/run_api.cpp", "#include <torch/script.h>", "no framework"),
    ("cpp/include/vlt.h", '#include "base/error.h"', "nothing of vlt"),
    ("cpp/newcomer/first.cpp", '#include "base/error.h"', "no line in MAY_INCLUDE"),
    (
        "python/vlt/packing.py",
        "import ctypes",
        "_native_scheduling.py, _dlpack.py may",
    ),
    (
        "python/vlt/converter/bert.py",
        "from ctypes import c_int",
        "_native_scheduling.py, _dlpack.py may",
    ),
    ("python/vlt/packing.py", "import tokenizers", "only inside a function"),
    ("python/vlt/packing.py", "def f():\n    import pandas", "numpy and tokenizers alone"),
    ("python/vlt/packing.py", "class A:\n    import torch.nn", "only inside a function"),
    ("python/vlt/packing.py", "import sklearn", "but for modules of integrations/"),
    ("python/vlt/integrations/portable.py", "import sklearn", "but for modules of integrations/"),
    ("python/vlt/integrations/sklearn.py", "import pandas", "but for modules of integrations/"),
    ("python/vlt/serving/engine.py", "import starlette", "and server/"),
    ("python/vlt/server/app.py", "import fastapi", "and server/"),
]


@pytest.mark.parametrize(("path", "line", "words"), FORBIDDEN)
def test_forbidden_dependency_is_found(copy: Path, path: str, line: str, words: str) -> None:
    (copy / path).parent.mkdir(exist_ok=True)
    with (copy / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    code, output = run_check("check_dependencies.py", copy)
    assert code == 1
    assert output.startswith(f"{path}:")
    assert words in output
    assert len(output.splitlines()) == 1


ALLOWED = [
    ("cpp/model/utf8.h", "// #include <torch/script.h> is what no file here does"),
    ("python/vlt/packing.py", "if TYPE_CHECKING:\n    import pandas"),
    ("python/vlt/packing.py", "def f():\n    import tokenizers"),
    ("python/vlt/integrations/sklearn.py", "from sklearn.utils import check_array"),
    ("python/vlt/server/app.py", "from starlette.responses import Response"),
]


@pytest.mark.parametrize(("path", "line"), ALLOWED)
def test_allowed_dependency_passes(copy: Path, path: str, line: str) -> None:
    with (copy / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert run_check("check_dependencies.py", copy) == (0, "")


# file, text, what it becomes, words of the report
DIFFERENCES = [
    (HEADER, "int32_t num_heads;", "int64_t num_heads;", "vlt_model_info"),
    (HEADER, "  int32_t head_size;\n", "", "vlt_model_info"),
    (HEADER, "int64_t num_tokens,\n", "int32_t num_tokens,\n", "vlt_session_workspace_bytes"),
    (HEADER, "void vlt_model_free(", "void vlt_model_release(", "vlt_model_release"),
    (HEADER, "void* memory, uint64_t num_bytes);", "void* memory);", "vlt_allocator"),
    (HEADER, "VLT_CANCELLED = 7", "VLT_CANCELLED = 8", "failing statuses"),
    (HEADER, "VLT_BFLOAT16 = 3", "VLT_BFLOAT16 = 4", "VLT_BFLOAT16"),
    (HEADER, "VLT_DEVICE_CUDA = 2", "VLT_DEVICE_GPU = 2", "VLT_DEVICE_CUDA"),
    (HEADER, "VLT_ABI_VERSION 1", "VLT_ABI_VERSION 2", "has ABI version 2"),
    (NATIVE, '("calls", c_uint64),', '("calls", c_uint32),', "vlt_profile_entry"),
    (NATIVE, '"vlt_session_free": (None,', '"vlt_session_free": (c_int32,', "vlt_session_free"),
    (NATIVE, '"embedding": 2', '"embedding": 3', "VLT_OUTPUT_EMBEDDING"),
]


@pytest.mark.parametrize(("path", "old", "new", "words"), DIFFERENCES)
def test_difference_from_header_is_found(
    copy: Path, path: str, old: str, new: str, words: str
) -> None:
    replace(copy / path, old, new)
    code, output = run_check("check_native_header.py", copy)
    assert code == 1
    assert words in output


def test_header_must_be_understood(copy: Path) -> None:
    """A declaration that the parser does not know is an error, not passed over."""
    replace(
        copy / HEADER, "#ifdef __cplusplus\n} ", "typedef int three[3];\n#ifdef __cplusplus\n} "
    )
    code, output = run_check("check_native_header.py", copy)
    assert code == 1
    assert "cannot read this part of vlt.h: 'typedef int three[3];'" in output
