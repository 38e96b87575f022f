"""Measuring cells on the GPU: make the engines, compare their states, time them in turns."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import bench_gpu_report
import bench_setting
import torch
from bench_gpu_cells import Cell, load_bert, make_work, write_checkpoint
from bench_gpu_timing import (
    Engine,
    copy_terabytes,
    host_milliseconds,
    matmul_teraflops,
    time_interleaved,
)
from bench_gpu_vlt import RunningVlt
from peers.cuda import Ready, Work, load
from peers.cuda.packed_bert import exact_states

# An engine may lose this multiple of what eager PyTorch loses in the same precision. Two programs
# that round differently differ by less; one that leaves something out is far above.
MOST_LOST = 2.0


def measure(
    cells: list[Cell], names: list[str], dtype: str, cache: Path, out: Path | None
) -> list[str]:
    """Time vlt and the peers on each cell; what failed, in words."""
    torch.set_grad_enabled(False)
    run: dict[str, Any] = {"setting": _setting(dtype), "cells": []}
    print(bench_gpu_report.render_setting(run["setting"]), flush=True)
    before = json.loads(out.read_text(encoding="utf-8"))["runs"] if out and out.exists() else []
    problems: list[str] = []
    # vlt takes part in the stream's order, which the legacy default stream would blur.
    with torch.cuda.stream(torch.cuda.Stream()):
        for model in dict.fromkeys(cell.model for cell in cells):
            folder = write_checkpoint(model, dtype, cache)
            bert, encoder = load_bert(folder, dtype), RunningVlt(folder, dtype)
            run["setting"]["vlt kernels"] = encoder.kernels
            for cell in (cell for cell in cells if cell.model == model):
                result = _measure_cell(cell, make_work(cell, bert), encoder, names, problems)
                _free()
                if result is None:
                    continue
                run["cells"].append(result)
                print(bench_gpu_report.render_line(result), flush=True)
                if out:  # after each cell: the rest may not come to its end
                    text = json.dumps({"runs": [*before, run]}, indent=1)
                    out.write_text(text + "\n", encoding="utf-8")
            encoder.close()
    return problems


def _measure_cell(
    cell: Cell, work: Work, encoder: RunningVlt, names: list[str], problems: list[str]
) -> dict[str, Any] | None:
    """The cell's figures; None where vlt itself cannot be timed."""
    makes = {"vlt": encoder.on_device} | {name: load(name) for name in names}
    check = Check(work)
    engines: list[Engine] = []
    for name, make in makes.items():
        try:
            ready = make(work)
            check(name, ready)
        except Exception as error:  # whatever a framework raises: the others are worth timing
            message = f"{type(error).__name__}: {str(error)[:500]}"
            problems.append(f"{cell} {name}: {message}")
            print(problems[-1], flush=True)
            if name == "vlt":
                return None
            continue
        engines.append(Engine(name, ready.run))
    engines.append(Engine("vlt lists", encoder.from_lists(work), host_milliseconds))
    del check.exact
    return {
        "model": cell.model,
        "workload": cell.workload,
        "sequences": len(cell.lengths),
        "tokens": sum(cell.lengths),
        "gflop": cell.gflop,
        "milliseconds": time_interleaved(engines),
        "errors": check.errors,
    }


class Check:
    """Compares an engine's states with those of the same weights in float32.

    Attributes
    ----------
    errors : dict of str to float
        Of each engine: the root mean square of the difference over that of the states.
    """

    def __init__(self, work: Work) -> None:
        self.exact = exact_states(work)
        self.errors: dict[str, float] = {}
        eager = load("packed")(work)
        self._allowed = MOST_LOST * self._error(eager)

    def __call__(self, name: str, ready: Ready) -> None:
        """Raise RuntimeError where the states are not what they should be."""
        if ready.packed is None:
            return
        self.errors[name] = error = self._error(ready)
        if not error <= self._allowed:
            raise RuntimeError(
                f"its states are off by {error:.2g} of their root mean square; "
                f"{self._allowed:.2g} is allowed, {MOST_LOST} times what eager PyTorch loses"
            )

    def _error(self, ready: Ready) -> float:
        assert ready.packed is not None
        states = ready.packed(ready.run()).float()
        return float((states - self.exact).norm() / self.exact.norm())


def _setting(dtype: str) -> dict[str, str]:
    """What is measured on and with, and the machine's rates of today."""
    facts = bench_setting.read_gpu(dtype)
    facts["8192³ matrix product"] = f"{matmul_teraflops(getattr(torch, dtype)):.0f} TFLOP/s"
    facts["copy, read + written"] = f"{copy_terabytes():.2f} TB/s"
    _free()
    return facts


def _free() -> None:
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
