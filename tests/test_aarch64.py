"""The library on AArch64, emulated by qemu: whole models, and the promise of the same bits.

Python itself is not emulated: C programs run the library. The environment variable
VLT_AARCH64_BUILD names a folder in which it was cross-built, as by `cmake --preset aarch64`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from converted_cases import ConvertedCases, run_case
from fidelity import RMS_FACTOR, WORST_FACTOR
from golden_cases import CASES, GoldenCase
from hostile.build import good_file
from instruction_sets import VARIABLE, open_encoder

from vlt import _native

ROOT = Path(__file__).resolve().parents[1]
BUILD = "VLT_AARCH64_BUILD"
COMPILER = "aarch64-linux-gnu-gcc"
# A workspace reserves 256 GiB of addresses, and qemu would mark every page of them, for seconds.
# Where there are 16 GiB in all, the library does without.
EMULATOR = ("qemu-aarch64", "-R", "16G", "-L", "/usr/aarch64-linux-gnu")

# qemu does about 1.5e8 multiplications a second; most heads and families have a case below this.
MOST_MULTIPLICATIONS = 500_000_000
GOLDEN_CASES = [case for case in CASES if case.multiplications <= MOST_MULTIPLICATIONS]
# Between them they run every kernel there is.
SAME_BITS_NAMES = ("head17-nothing-even", "pool-all", "head48-relu", "deberta", "distilbert-sparse")
SAME_BITS = [case for case in CASES if case.name in SAME_BITS_NAMES]


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done


class EmulatedPrograms:
    """C programs on the emulated library."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = library
        self._folder = folder

    def compile(self, name: str) -> Path:
        """The program of tests/c/NAME.c, compiled when first asked for."""
        program = self._folder / name
        if not program.exists():
            source = ROOT / "tests" / "c" / f"{name}.c"
            include = f"-I{ROOT / 'cpp' / 'include'}"
            strict = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", include)
            rpath = f"-Wl,-rpath,{self._library.parent}"
            run(COMPILER, *strict, source, self._library, rpath, "-lm", "-o", program)
        return program

    def __call__(
        self, name: str, *arguments: str | Path, kernels: str | None = None, batch: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
        if kernels is not None:
            environment[VARIABLE] = kernels
        command = (*EMULATOR, self.compile(name), *arguments)
        return run(*command, env=environment, input=batch)

    def run_case(
        self, weights: Path, case: GoldenCase, kernels: str, num_threads: int = 2
    ) -> npt.NDArray[np.float32]:
        """As `converted_cases.run_case` does."""
        kind = str(_native.OUTPUTS[case.output])
        arguments = (weights, kind, str(num_threads))
        done = self("run_model", *arguments, kernels=kernels, batch=packed(case))
        assert done.stderr.decode().split() == [kernels]
        return np.frombuffer(done.stdout, np.float32).reshape(case.shape)


def packed(case: GoldenCase) -> bytes:
    """What run_model reads of a case."""
    ids, types = case.inputs()
    no_prompts = np.zeros(len(ids), np.int32)
    chosen = case.chosen if case.output == "vocabulary" else np.zeros(0, np.int32)
    starts = np.cumsum([0, *case.lengths])
    sizes = (len(ids), starts[-1], len(chosen), np.prod(case.shape))
    pooling_starts = no_prompts if case.pooling_starts is None else case.pooling_starts
    arrays = (sizes, starts, *ids, *types, pooling_starts, chosen)
    return b"".join(np.asarray(array, np.int32).tobytes() for array in arrays)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> EmulatedPrograms:
    for program in (COMPILER, EMULATOR[0]):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: Debian has it in g++-aarch64-linux-gnu and qemu-user")
    build = os.environ.get(BUILD)
    if build is None:
        pytest.skip(f"{BUILD} does not name a folder with a cross-built library")
    return EmulatedPrograms(Path(build).resolve() / "libvlt.so", tmp_path_factory.mktemp("aarch64"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedCases:
    return ConvertedCases(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("kernels", ["neon", "portable"])
def test_c_client(programs: EmulatedPrograms, kernels: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(good_file())
    programs("client", weights, kernels=kernels)


def test_neon_is_what_it_chooses(programs: EmulatedPrograms, converted: ConvertedCases) -> None:
    case = CASES[0]
    weights, _ = converted(case)
    kind = str(_native.OUTPUTS[case.output])
    assert programs("run_model", weights, kind, "1", batch=packed(case)).stderr == b"neon\n"


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_neon_loses_no_more_than_pytorch(
    case: GoldenCase, programs: EmulatedPrograms, converted: ConvertedCases
) -> None:
    weights, golden = converted(case)
    actual = programs.run_case(weights, case, "neon")
    golden.require_within(
        actual, golden.torch_loss.scaled(RMS_FACTOR, WORST_FACTOR), f"{case.name} on neon"
    )


@pytest.mark.parametrize("case", SAME_BITS, ids=lambda case: case.name)
def test_portable_kernels_give_the_bits_of_this_machine(
    case: GoldenCase, programs: EmulatedPrograms, converted: ConvertedCases
) -> None:
    weights, _ = converted(case)
    with open_encoder(weights, "portable") as encoder:
        here = run_case(encoder, case)
    np.testing.assert_array_equal(programs.run_case(weights, case, "portable"), here)


@pytest.mark.parametrize("kernels", ["neon", "portable"])
def test_threads_change_no_bit(
    kernels: str, programs: EmulatedPrograms, converted: ConvertedCases
) -> None:
    case = next(case for case in CASES if case.name == "head17-nothing-even")
    weights, _ = converted(case)
    one, three = (programs.run_case(weights, case, kernels, threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
