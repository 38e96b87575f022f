"""OpenAI's embeddings, as its own clients ask for them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from vlt.serving.preparing import Truncation

from .reply import Reply, dumps
from .state import characters_of

if TYPE_CHECKING:
    from .fields import Fields
    from .state import State

MOST_INPUTS = 2_048  # of a request, as OpenAI has it


async def embeddings(state: State, fields: Fields) -> Reply:
    """A vector of length 1 for each input."""
    items, batch = fields.inputs("input")
    state.require_batch(len(items), MOST_INPUTS)
    encoded = fields.choice("encoding_format", ("float", "base64")) == "base64"
    truncation = Truncation(state.options.auto_truncate)
    dimensions = state.dimensions(fields)
    rows, answer = await state.embed(items, state.prompt(fields), truncation, True, dimensions)
    data = [
        {
            "object": "embedding",
            "index": index,
            # On every machine that vlt runs on float32 is little-endian, as asked for.
            "embedding": base64.b64encode(row.tobytes()).decode("ascii") if encoded else row,
        }
        for index, row in enumerate(rows)
    ]
    body = {
        "object": "list",
        "data": data,
        "model": state.options.model_name,
        "usage": usage_of(answer.lengths),
    }
    return Reply(dumps(body), answer, characters_of(items), batch)


def usage_of(lengths: list[int]) -> dict[str, int]:
    """Tokens of the inputs; there are no others."""
    return {"prompt_tokens": sum(lengths), "total_tokens": sum(lengths)}


def models(state: State, created: int) -> dict[str, Any]:
    """The one model there is; `created` is when it was loaded, in seconds since 1970."""
    model = {
        "id": state.options.model_name,
        "object": "model",
        "created": created,
        "owned_by": "vlt",
    }
    return {"object": "list", "data": [model]}
