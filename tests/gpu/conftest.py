"""Tests of the GPU kernels: skipped where they cannot run, ended where the device hangs or is lost.

VLT_GPU_TESTS=reduced selects a few small cases of each kernel, for compute-sanitizer; with
PYTORCH_NO_CUDA_MEMORY_CACHING=1 each tensor is then an allocation of its own, whose end it knows.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu import native

SECONDS_PER_TEST = 60
SECONDS_PER_TEST_UNDER_A_SANITIZER = 600


def _reason_to_skip() -> str:
    """Why no test of this folder can run here; '' where they can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no GPU: libcuda.so.1 cannot be loaded"
    code = driver.cuInit(0)
    if code != 0:
        return f"no GPU: cuInit fails with {code}"
    if importlib.util.find_spec("torch") is None:
        return "the reference is missing: torch is not installed"
    if not native.shim_path().exists() and "VLT_KERNEL_SHIM" not in os.environ:
        return "the kernels are missing: build vlt_kernel_shim, or set VLT_KERNEL_SHIM"
    return ""


REASON_TO_SKIP = _reason_to_skip()


class SkippedModule(pytest.Module):
    """A test module that is not even imported, since it would need torch."""

    def collect(self) -> Any:
        pytest.skip(REASON_TO_SKIP, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    return SkippedModule.from_parent(parent, path=module_path) if REASON_TO_SKIP else None


@pytest.fixture(scope="session")
def stderr_behind_pytest(pytestconfig: pytest.Config) -> Iterator[int]:
    """A descriptor of the real standard error: what pytest captures is lost when a test hangs."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        descriptor = os.dup(2)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def watched(stderr_behind_pytest: int) -> Iterator[None]:
    """End the run where a test hangs, or where a kernel has broken the device's context."""
    import torch

    reduced = os.environ.get("VLT_GPU_TESTS") == "reduced"
    seconds = SECONDS_PER_TEST_UNDER_A_SANITIZER if reduced else SECONDS_PER_TEST
    faulthandler.dump_traceback_later(seconds, exit=True, file=stderr_behind_pytest)
    yield
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:  # sticky: every later call would fail likewise
        pytest.exit(f"the device is lost: {error}", returncode=1)
    finally:
        faulthandler.cancel_dump_traceback_later()
