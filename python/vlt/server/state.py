"""What all routes share: the service, its limits, and what the model can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlt import vectors
from vlt.errors import UnsupportedError
from vlt.labels import function_for, label_names, problem_of
from vlt.serving.preparing import Truncation
from vlt.serving.settings import device_type

from .failures import VALIDATION, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vlt.outputs import OutputName
    from vlt.serving.preparing import Direction, Item
    from vlt.serving.service import Answer, Service
    from vlt.text_encoder import TextEncoder

    from .fields import Fields
    from .gate import Gate
    from .metrics import Metrics
    from .options import ServerOptions
    from .tracing import Tracing

    Float32Array = NDArray[np.float32]

DIRECTIONS: tuple[Direction, ...] = ("right", "left")


@dataclass(frozen=True)
class State:
    """Handed to every route."""

    service: Service
    options: ServerOptions
    gate: Gate
    metrics: Metrics
    tracing: Tracing | None = None

    @property
    def encoder(self) -> TextEncoder:
        """The model, on its first device."""
        return self.service.encoder

    @property
    def compute_type(self) -> bytes:
        """For the header x-compute-type."""
        return {"cpu": b"cpu", "cuda": b"gpu"}[device_type(self.encoder)]

    # ---- What the model is -------------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        """Scores of a text or a pair; 0 for a model without."""
        return int(self.encoder._info["num_labels"])

    @property
    def labels(self) -> list[str]:
        """Their names."""
        return label_names(self.encoder.config, self.num_labels)

    @property
    def function(self) -> str:
        """What makes probabilities of scores: "sigmoid", "softmax" or "none"."""
        return function_for(problem_of(self.encoder.config), self.num_labels)

    def require(self, output: OutputName, what: str) -> None:
        """Refuse what the model has no head for."""
        if output not in self.encoder.outputs:
            raise UnsupportedError(
                f"the model is not {what}; it gives {', '.join(self.encoder.outputs)}"
            )

    # ---- What requests have in common --------------------------------------------------------

    def require_batch(self, count: int, most: int) -> None:
        """Refuse more inputs than a request may have."""
        if count > most:
            raise RequestError(VALIDATION, f"a request may have {most} inputs, not {count}")

    def truncation(self, fields: Fields) -> Truncation:
        """What `truncate` and `truncation_direction` ask for."""
        allowed = fields.flag("truncate", self.options.auto_truncate)
        return Truncation(allowed, fields.choice("truncation_direction", DIRECTIONS))

    def prompt(self, fields: Fields) -> str:
        """The text that `prompt_name` stands for."""
        return self.encoder._prompt(fields.optional_text("prompt_name"), None)

    def dimensions(self, fields: Fields) -> int | None:
        """How many leading numbers of an embedding are wanted; None: all."""
        return fields.integer("dimensions", 1, self.encoder.embedding_size)

    async def embed(
        self,
        items: Sequence[Item],
        prompt: str,
        truncation: Truncation,
        normalize: bool,
        dimensions: int | None,
    ) -> tuple[Float32Array, Answer]:
        """[n, D] embeddings: those of `Encoder.encode` with the same options, to the bit."""
        self.require("embedding", "an embedding model")
        answer = await self.service.answer(items, "embedding", prompt, truncation)
        kept = np.stack(answer.rows)[:, :dimensions]
        return (
            vectors.normalize(kept) if normalize else np.ascontiguousarray(kept),
            answer,
        )


def characters_of(items: Sequence[Any]) -> int:
    """Of texts and pairs; token ids have none."""
    count = 0
    for item in items:
        if isinstance(item, str):
            count += len(item)
        elif isinstance(item, tuple):
            count += sum(map(len, item))
    return count
