"""Golden cases as weights files, converted when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from fidelity import Loss, require_within
from golden_cases import GOLDEN, GoldenCase

import vlt


@dataclass(frozen=True)
class Golden:
    """What tests/golden keeps of a case."""

    values: npt.NDArray[np.float64]
    positions: npt.NDArray[np.int64]  # of the values, in the flattened output
    torch_loss: Loss  # PyTorch's in float32, over these values

    def require_within(self, actual: npt.NDArray[Any], bound: Loss, name: str) -> None:
        """Fail where the whole output `actual` [rows, columns] loses more than `bound`."""
        require_within(
            actual.ravel()[self.positions],
            self.values,
            bound,
            name,
            positions=self.positions,
            row_length=actual.shape[1],
        )


class ConvertedCases:
    """Weights files of golden cases in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._goldens: dict[str, Golden] = {}

    def __call__(self, case: GoldenCase) -> tuple[Path, Golden]:
        """The weights file and the golden of a case."""
        weights = self._folder / f"{case.name}.bin"
        if case.name not in self._goldens:
            source = case.write_folder(self._folder / case.name)
            golden = read_golden(case, source)
            vlt.convert(source, weights)
            self._goldens[case.name] = golden
        return weights, self._goldens[case.name]


def read_golden(case: GoldenCase, source: Path) -> Golden:
    """The golden of a case; refuses one that was made from other weights or inputs."""
    with np.load(GOLDEN / f"{case.name}.npz") as file:
        assert str(file["fingerprint"]) == case.fingerprint(source), (
            f"tests/golden/{case.name}.npz belongs to other weights or token ids than "
            "model_folders.py and golden_cases.py make now: run tools/make_golden.py"
        )
        values = file["values"]
        loss = Loss(float(file["torch_rms"]), float(file["torch_worst"]))
    return Golden(values, case.positions, loss)


def run_case(encoder: vlt.Encoder, case: GoldenCase) -> npt.NDArray[Any]:
    """All sequences in one batch: an array of `case.shape`."""
    ids, types = case.inputs()
    options: dict[str, Any] = {"output": case.output}
    if case.token_types:
        options["token_types"] = types
    if case.pooling_starts is not None:
        options["pooling_starts"] = case.pooling_starts
    if case.output == "vocabulary":
        options["chosen"] = case.chosen
    result: Any = encoder.run(ids, **options)
    values: npt.NDArray[Any] = getattr(result, "values", result)  # of a packed array
    return values
