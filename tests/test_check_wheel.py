"""tools/check_wheel.py finds what does not belong in an sdist or a wheel, and what is missing."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import check_wheel

TRACKED = [".ci/run", "CMakeLists.txt", "python/vlt/__init__.py"]
METADATA = [f"vlt-1.0.dist-info/{name}" for name in check_wheel.METADATA]
WHEEL = ["vlt/__init__.py", "vlt/libvlt.so", *METADATA]
SDIST = ["CMakeLists.txt", "python/vlt/__init__.py", "PKG-INFO"]


def wheel_problems(folder: Path, names: Iterable[str], tag: str = "py3-none-any") -> list[str]:
    path = folder / f"vlt-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return list(check_wheel.check_wheel(path, TRACKED))


def sdist_problems(folder: Path, names: Iterable[str]) -> list[str]:
    path = folder / "vlt-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"vlt-1.0/{name}"))
    return list(check_wheel.check_sdist(path, TRACKED))


def test_wheel(tmp_path: Path) -> None:
    assert wheel_problems(tmp_path, WHEEL) == []
    stray = wheel_problems(tmp_path, [*WHEEL, "vlt/libvlt.so.1"])
    assert stray == ["the wheel holds vlt/libvlt.so.1, which does not belong there"]
    assert wheel_problems(tmp_path, WHEEL[1:]) == ["the wheel lacks vlt/__init__.py"]
    (bound,) = wheel_problems(tmp_path, WHEEL, "cp311-cp311-linux_x86_64")
    assert "py3-none" in bound


def test_sdist(tmp_path: Path) -> None:
    assert sdist_problems(tmp_path, SDIST) == []
    stray = sdist_problems(tmp_path, [*SDIST, ".ci/run"])
    assert stray == ["the sdist holds .ci/run, which does not belong there"]
    assert sdist_problems(tmp_path, SDIST[1:]) == ["the sdist lacks CMakeLists.txt"]
