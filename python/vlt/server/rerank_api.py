"""Reranking as Cohere and Jina have it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from vlt.serving.preparing import Truncation

from .failures import VALIDATION, RequestError
from .fields import require_filled, shown
from .openai_api import MOST_INPUTS, usage_of
from .reply import Reply, dumps
from .state import characters_of
from .tei_api import best_first, score_pairs

if TYPE_CHECKING:
    from .fields import Fields
    from .state import State


async def rerank(state: State, fields: Fields) -> Reply:
    """How well each document answers a query, 0 ... 1, the best first."""
    query, documents = fields.text("query"), _documents(fields)
    require_filled(query, "query")
    state.require_batch(len(documents), MOST_INPUTS)
    top = fields.integer("top_n", 1, 1 << 31)
    with_text = fields.flag("return_documents", False)
    truncation = Truncation(state.options.auto_truncate)
    found, answer = await score_pairs(state, query, documents, truncation, raw=False)
    results = [
        {"index": index, "relevance_score": found[index]}
        | ({"document": {"text": documents[index]}} if with_text else {})
        for index in best_first(found)[:top]
    ]
    body = {
        "id": uuid.uuid4().hex,
        "model": state.options.model_name,
        "results": results,
        "usage": usage_of(answer.lengths),
    }
    characters = len(query) * len(documents) + characters_of(documents)
    return Reply(dumps(body), answer, characters, batch=True)


def _documents(fields: Fields) -> list[str]:
    """Texts, or objects with the field `text`."""
    return [_text(each, index) for index, each in enumerate(fields.filled_list("documents"))]


def _text(document: Any, index: int) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise RequestError(
            VALIDATION,
            f"`documents[{index}]` must be a string or an object with the field `text`, not "
            f"{shown(document)}",
        )
    return text
