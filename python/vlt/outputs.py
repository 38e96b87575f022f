"""What a run can give: of which shape, and which head of the weights file it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

OutputName = Literal["hidden", "embedding", "logits", "token_logits", "vocabulary", "sparse"]


@dataclass(frozen=True)
class Output:
    """One kind of result.

    Attributes
    ----------
    rows : str
        What has a row each: "tokens" (T), "sequences" (S) or "chosen" tokens (C).
    columns : str
        Field of vlt_model_info with the size of a row; 0 where the file lacks the head.
    head : str
        What a file must have for it, in words.
    on_device : bool
        Can it be made of, or written into, arrays on a GPU?
    """

    rows: Literal["tokens", "sequences", "chosen"]
    columns: str
    head: str
    on_device: bool


OUTPUTS: dict[str, Output] = {
    "hidden": Output("tokens", "hidden_size", "an encoder", True),
    "embedding": Output("sequences", "embedding_size", "an embedding head", True),
    "logits": Output("sequences", "num_labels", "a sequence head", True),
    "token_logits": Output("tokens", "num_token_labels", "a token head", False),
    "vocabulary": Output("chosen", "vocabulary_outputs", "a vocabulary head", False),
    "sparse": Output(
        "sequences", "sparse_size", "a vocabulary head that makes sparse embeddings", False
    ),
}


def available(info: Mapping[str, Any]) -> list[str]:
    """Names of the outputs that a model has heads for."""
    return [name for name, output in OUTPUTS.items() if info[output.columns] > 0]


def require(info: Mapping[str, Any], name: str, who: str | None = None) -> Output:
    """The output of this name; `who` needs it, for the message.

    Raises
    ------
    InvalidArgumentError
        There is none.
    UnsupportedError
        The model has no head for it; the message says what it has.
    """
    if name not in OUTPUTS:
        known = ", ".join(map(repr, OUTPUTS))
        raise InvalidArgumentError(f"output must be one of {known}, not {name!r}")
    output = OUTPUTS[name]
    if info[output.columns] == 0:
        raise UnsupportedError(
            f"{who or f'output {name!r}'} needs a weights file with {output.head}, and this one "
            f"has none; it gives {', '.join(map(repr, available(info)))}"
        )
    return output


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One kind of result, as one model gives it.

    Attributes
    ----------
    name : str
    rows, on_device
        As `Output` has them.
    columns : int
        Size of a row.
    dtypes : tuple of str
        What it can be written as.
    """

    name: str
    rows: Literal["tokens", "sequences", "chosen"]
    columns: int
    on_device: bool
    dtypes: tuple[str, ...]

    def shape(self, tokens: int, sequences: int, chosen: int = 0) -> tuple[int, int]:
        """(rows, columns) for a batch of this size."""
        if self.rows == "tokens":
            return tokens, self.columns
        return sequences if self.rows == "sequences" else chosen, self.columns


class ModelOutputs(dict[str, ModelOutput]):
    """What a model can give, by name; looking up anything else raises what `require` raises.

    Made once for a model: a call on a GPU notices the time that it takes.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        for name in available(info):
            output = OUTPUTS[name]
            dtypes: tuple[str, ...] = ("float32",)
            # The CPU's states are float32, whatever its weights are.
            if name == "hidden" and info["device_type"] == "cuda":
                dtypes = tuple(dict.fromkeys((*dtypes, info["compute_type"])))
            columns = int(info[output.columns])
            self[name] = ModelOutput(name, output.rows, columns, output.on_device, dtypes)

    def __missing__(self, name: str) -> ModelOutput:
        require(self._info, name)
        raise KeyError(name)
