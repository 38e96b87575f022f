"""`cmake --install` makes a prefix that other projects find, wherever it is moved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cmake_build
import numpy as np
import pytest
from cmake_build import ROOT, run

import vlt
from vlt import _native

SEQUENCES = [[2, 5, 3], [7, 11, 13, 17]]
WORDS = ["2", "5", "3", "/", "7", "11", "13", "17"]


@pytest.fixture(scope="module")
def prefix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library under test, or one built here, installed and then moved elsewhere."""
    if shutil.which("cmake") is None:
        pytest.skip("no cmake to install with")
    tree = cmake_build.tree_of_library()
    if tree is None:
        tree = request.getfixturevalue("build_tree")
        cmake_build.build(tree, "vlt")
    folder = tmp_path_factory.mktemp("install")
    run("cmake", "--install", tree, "--prefix", folder / "first")
    return (folder / "first").rename(folder / "moved")


def library_folder(prefix: Path) -> Path:
    """lib or lib64, as the system has it."""
    return next(prefix.rglob("libvlt.so")).parent


def test_files(prefix: Path) -> None:
    library = library_folder(prefix).relative_to(prefix).as_posix()
    soname = f"libvlt.so.{_native.ABI_VERSION}"
    files = {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()}
    build_types = {name for name in files if "/vltConfig-" in name}
    assert len(build_types) == 1
    assert files - build_types == {
        "include/vlt.h",
        "share/doc/vlt/LICENSE",
        f"{library}/{soname}",
        f"{library}/libvlt.so",
        f"{library}/cmake/vlt/vltConfig.cmake",
        f"{library}/cmake/vlt/vltConfigVersion.cmake",
        f"{library}/pkgconfig/vlt.pc",
    }
    assert (prefix / library / "libvlt.so").readlink() == Path(soname)


def check_program(program: Path, weights: Path, encoder: vlt.Encoder) -> None:
    """It prints, to the bit, what Python gets."""
    printed = [line.split() for line in run(program, weights, *WORDS).splitlines()]
    expected = np.asarray(encoder.run(SEQUENCES, output="embedding"))
    np.testing.assert_array_equal(np.array(printed, np.float32), expected)


def test_find_package(
    prefix: Path, tiny_weights: Path, tiny_encoder: vlt.Encoder, tmp_path: Path
) -> None:
    found = f"-DCMAKE_PREFIX_PATH={prefix}"
    run("cmake", "-S", ROOT / "examples" / "c", "-B", tmp_path, "-G", "Ninja", found)
    run("cmake", "--build", tmp_path)
    check_program(tmp_path / "embed", tiny_weights, tiny_encoder)


def test_pkg_config(
    prefix: Path,
    tiny_weights: Path,
    tiny_encoder: vlt.Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    cc = os.environ.get("CC", "cc")
    if shutil.which(cc) is None:
        pytest.skip(f"no compiler {cc!r}")
    monkeypatch.setenv("PKG_CONFIG_PATH", str(library_folder(prefix) / "pkgconfig"))
    assert run("pkg-config", "--modversion", "vlt").strip() == vlt.build_info()["version"]
    flags = run("pkg-config", "--cflags", "--libs", "vlt").split()
    rpath = f"-Wl,-rpath,{library_folder(prefix)}"
    run(cc, ROOT / "examples" / "c" / "embed.c", *flags, rpath, "-o", tmp_path / "embed")
    check_program(tmp_path / "embed", tiny_weights, tiny_encoder)
