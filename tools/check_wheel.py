"""Build the sdist, and the wheel from it, as a release does; check what they hold.

    python tools/check_wheel.py

The sdist must hold what git tracks, the wheel the package, one libvlt.so and the metadata, and
neither anything else. The wheel is for every Python 3, imports, and fits a manylinux by auditwheel,
which is printed. All is built twice, in two places, and must come out the same to the byte.

Needs git, a C++ compiler, numpy, and `build` and `auditwheel` from PyPI; about 3 minutes on two
cores. Without CUDA. Prints what is wrong and fails if anything is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_IN_SDIST = (".ci/", ".github/")  # sdist.exclude in pyproject.toml
PACKAGE = "python/"  # the folder above the package
METADATA = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")


def output(*command: str, **environment: str) -> str:
    """Standard output of a command; where it fails, that is the last thing to be read."""
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(command)}")
    return done.stdout


def differences(what: str, found: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    """A line for every name that is in one of the two alone."""
    found, expected = set(found), set(expected)
    yield from (f"{what} holds {name}, which does not belong there" for name in found - expected)
    yield from (f"{what} lacks {name}" for name in expected - found)


def check_sdist(sdist: Path, tracked: Iterable[str]) -> Iterator[str]:
    """Problems of the files in an sdist."""
    folder = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        found = [name.removeprefix(f"{folder}/") for name in archive.getnames()]
    expected = [name for name in tracked if not name.startswith(NOT_IN_SDIST)]
    yield from differences("the sdist", found, [*expected, "PKG-INFO"])


def check_wheel(wheel: Path, tracked: Iterable[str]) -> Iterator[str]:
    """Problems of a wheel's name and of the files in it."""
    name, version, *tag = wheel.stem.split("-")
    if tag[:2] != ["py3", "none"]:
        yield f"{wheel.name} should be a wheel for py3-none: it asks no more of a Python"
    modules = [path.removeprefix(PACKAGE) for path in tracked if path.startswith(PACKAGE)]
    metadata = [f"{name}-{version}.dist-info/{file}" for file in METADATA]
    with zipfile.ZipFile(wheel) as archive:
        found = archive.namelist()
    yield from differences("the wheel", found, [*modules, "vlt/libvlt.so", *metadata])


def check_import(wheel: Path, folder: Path) -> Iterator[str]:
    """Problems of the wheel's package, unpacked into `folder` and imported from there."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    library = str(folder / "vlt" / "libvlt.so")
    code = "import vlt; print(vlt.build_info()['version'])"
    version = output(sys.executable, "-c", code, PYTHONPATH=str(folder), VLT_LIBRARY=library)
    if version.strip() != wheel.name.split("-")[1]:
        yield f"the library of {wheel.name} says that it is version {version.strip()}"


def check_platform(wheel: Path) -> Iterator[str]:
    """Prints the manylinux that auditwheel allows; a problem where it allows none."""
    report = output(sys.executable, "-m", "auditwheel", "show", str(wheel))
    tag = re.search(r'platform\s+tag:\s+"([^"]+)"', report)
    if tag is None or not tag[1].startswith("manylinux"):
        yield f"{wheel.name} fits no manylinux:\n{report}"
    else:
        print(f"{wheel.name}: {tag[1]}, {wheel.stat().st_size / 1e6:.2f} MB")


def build(folder: Path) -> tuple[Path, Path]:
    """An sdist of the checkout and a wheel of that sdist, which is unpacked at a random place."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct")
    options = ["--outdir", str(folder), "--config-setting=cmake.define.VLT_CUDA=OFF"]
    output(sys.executable, "-m", "build", *options, str(ROOT), SOURCE_DATE_EPOCH=epoch.strip())
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def check_all(folder: Path) -> Iterator[str]:
    """Problems of what is built in `folder`."""
    tracked = output("git", "ls-files").splitlines()
    sdist, wheel = build(folder / "first")
    yield from check_sdist(sdist, tracked)
    yield from check_wheel(wheel, tracked)
    yield from check_import(wheel, folder / "unpacked")
    yield from check_platform(wheel)
    for first, second in zip((sdist, wheel), build(folder / "second"), strict=True):
        if first.read_bytes() != second.read_bytes():
            yield f"two builds of {first.name} differ"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        problems = sorted(check_all(Path(folder)))
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
