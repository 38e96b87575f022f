"""What a weights file's metadata says about labels and about what scores mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def label_names(metadata: Mapping[str, str], count: int) -> list[str]:
    """Names of a head's outputs: "LABEL_0" and so on where the file has none."""
    return [metadata.get(f"label.{index}", f"LABEL_{index}") for index in range(count)]


def problem_of(metadata: Mapping[str, str]) -> str:
    """ "regression", "single_label" or "multi_label": what the sequence head's outputs are."""
    return metadata.get("problem", "single_label")


def function_for(problem: str, num_labels: int) -> str:
    """The function of `vlt.scores` that makes probabilities of logits, as transformers does.

    One label alone has a probability of its own; a share among one would always be 1.
    """
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label" or num_labels == 1 else "softmax"
