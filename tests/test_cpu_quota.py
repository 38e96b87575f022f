"""Limits of CPU time that control groups set: their files as Linux writes them, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_programs import ROOT, SOURCES, STRICT, compiler, run

GROUPS = {"": "max 100000", "a.slice": "350000 100000", "a.slice/b.service": "150000 100000"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("quota") / "cpu_quota"
    sources = SOURCES / "cpu_quota.cpp", ROOT / "cpp" / "kernels" / "cpu" / "cpu_quota.cpp"
    run(compiler("CXX", "c++"), "-std=c++20", *STRICT, f"-I{ROOT / 'cpp'}", *sources, "-o", made)
    return made


def cores(program: Path, folder: Path, memberships: str, files: dict[str, str]) -> int:
    for name, content in files.items():
        path = folder / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (folder / "cgroup").write_text(memberships)
    return int(run(program, folder / "cgroup", folder / "mount"))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("/", 0),
        ("/a.slice", 4),
        ("/a.slice/b.service", 2),
        ("/a.slice/c.service", 4),  # a group without a file is limited from above
        ("/docker/not-mounted-here", 0),
    ],
)
def test_version_2(program: Path, tmp_path: Path, group: str, expected: int) -> None:
    files = {f"{name}/cpu.max": content for name, content in GROUPS.items()}
    assert cores(program, tmp_path, f"0::{group}\n", files) == expected


def test_root_of_a_container(program: Path, tmp_path: Path) -> None:
    assert cores(program, tmp_path, "0::/\n", {"cpu.max": "200000 100000"}) == 2


def test_version_1(program: Path, tmp_path: Path) -> None:
    files = {
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "cpu/docker/x/cpu.cfs_quota_us": "250000",
        "cpu/docker/x/cpu.cfs_period_us": "100000",
    }
    memberships = "9:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"
    assert cores(program, tmp_path, memberships, files) == 3


@pytest.mark.parametrize("content", ["", "max", "0 100000", "100000 0", "-1 100000", "many 100000"])
def test_no_limit(program: Path, tmp_path: Path, content: str) -> None:
    assert cores(program, tmp_path, "nonsense\n0::/\n", {"cpu.max": content}) == 0


def test_no_file(program: Path, tmp_path: Path) -> None:
    assert int(run(program, tmp_path / "none", tmp_path / "none")) == 0
