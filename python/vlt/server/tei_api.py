"""The routes of text-embeddings-inference: requests and answers as its clients know them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from vlt import scores, vectors
from vlt.sentences import prepend
from vlt.serving.preparing import Truncation

from .failures import EMPTY, UNSUPPORTED, RequestError
from .fields import require_filled
from .reply import Reply, dump_arrays, dumps
from .state import characters_of

if TYPE_CHECKING:
    from vlt.outputs import OutputName
    from vlt.serving.service import Answer

    from .fields import Fields
    from .state import State


async def embed(state: State, fields: Fields) -> Reply:
    """A vector for each input."""
    items, batch = fields.inputs("inputs")
    state.require_batch(len(items), state.options.max_client_batch_size)
    rows, answer = await state.embed(
        items,
        state.prompt(fields),
        state.truncation(fields),
        fields.flag("normalize", True),
        state.dimensions(fields),
    )
    return Reply(dumps(rows), answer, characters_of(items), batch)


async def embed_all(state: State, fields: Fields) -> Reply:
    """A vector for each token of each input."""
    answer, characters, batch = await _run(state, fields, "hidden", "an encoder")
    body = await dump_arrays(answer.rows, asyncio.get_running_loop())
    return Reply(body, answer, characters, batch)


async def embed_sparse(state: State, fields: Fields) -> Reply:
    """The words of each input with a weight that is not zero."""
    answer, characters, batch = await _run(state, fields, "sparse", "a sparse embedding model")
    found = [
        [
            {"index": index, "value": value}
            for index, value in zip(row.indices.tolist(), row.values, strict=True)
        ]
        for row in answer.rows
    ]
    return Reply(dumps(found), answer, characters, batch)


async def _run(
    state: State, fields: Fields, output: OutputName, what: str
) -> tuple[Answer, int, bool]:
    """The model's output for the inputs, their characters, and whether they were a list."""
    state.require(output, what)
    items, batch = fields.inputs("inputs")
    state.require_batch(len(items), state.options.max_client_batch_size)
    answer = await state.service.answer(
        items, output, state.prompt(fields), state.truncation(fields)
    )
    return answer, characters_of(items), batch


async def rerank(state: State, fields: Fields) -> Reply:
    """How well each text answers a query, best first."""
    query, texts = fields.text("query"), fields.texts("texts")
    require_filled(query, "query")
    state.require_batch(len(texts), state.options.max_client_batch_size)
    raw = fields.flag("raw_scores", False)
    with_text = fields.flag("return_text", False)
    found, answer = await score_pairs(state, query, texts, state.truncation(fields), raw)
    ranks = [
        {"index": index, "score": found[index]} | ({"text": texts[index]} if with_text else {})
        for index in best_first(found)
    ]
    characters = len(query) * len(texts) + characters_of(texts)
    return Reply(dumps(ranks), answer, characters, batch=True)


async def score_pairs(
    state: State, query: str, texts: list[str], truncation: Truncation, raw: bool
) -> tuple[Any, Answer]:
    """[n] float32: a score of each text, 0 ... 1 unless `raw`."""
    state.require("logits", "a reranking model")
    if state.num_labels != 1:
        raise RequestError(
            UNSUPPORTED,
            f"the model is not a reranking model: it gives a pair {state.num_labels} scores",
        )
    pairs = [(query, text) for text in texts]
    answer = await state.service.answer(pairs, "logits", "", truncation)
    logits = np.concatenate(answer.rows)
    return (logits if raw else scores.sigmoid(logits)), answer


def best_first(found: Any) -> list[int]:
    """Places of scores [n], of equal ones the first one first."""
    order: list[int] = scores.largest(found, len(found)).tolist()
    return order


async def predict(state: State, fields: Fields) -> Reply:
    """Labels of texts or pairs of them, the best first."""
    state.require("logits", "a classification model")
    items, batch = fields.pairs("inputs")
    state.require_batch(len(items), state.options.max_client_batch_size)
    function = "none" if fields.flag("raw_scores", False) else state.function
    answer = await state.service.answer(items, "logits", "", state.truncation(fields))
    labels = state.labels
    found = [
        [{"score": row[index], "label": labels[index]} for index in best_first(row)]
        for row in scores.function_named(function)(np.stack(answer.rows))
    ]
    return Reply(dumps(found if batch else found[0]), answer, characters_of(items), batch)


async def similarity(state: State, fields: Fields) -> Reply:
    """The cosine of a text to each of several others."""
    inputs, parameters = fields.nested("inputs"), fields.optional_nested("parameters")
    source, texts = inputs.text("source_sentence"), inputs.text_or_texts("sentences")
    require_filled(source, "source_sentence")
    state.require_batch(len(texts) + 1, state.options.max_client_batch_size)
    items = [source, *texts]
    rows, answer = await state.embed(
        items, state.prompt(parameters), state.truncation(parameters), False, None
    )
    found = vectors.similarity(rows[0], rows[1:], "cosine")[0]
    return Reply(dumps(found), answer, characters_of(items), batch=True)


async def tokenize(state: State, fields: Fields) -> Reply:
    """The tokens of texts, with the places they stand at."""
    texts = fields.text_or_texts("inputs")
    state.require_batch(len(texts), state.options.max_client_batch_size)
    prompt, special = state.prompt(fields), fields.flag("add_special_tokens", True)
    full = [prepend(prompt, text) for text in texts]
    tokens = await state.service.in_thread(_tokens, state, full, special)
    return Reply(dumps(tokens), characters=characters_of(texts), batch=len(texts) > 1)


def _tokens(state: State, texts: list[str], special: bool) -> list[list[dict[str, Any]]]:
    tokenizer = state.service.preparer.tokenizer(Truncation(allowed=False))
    result = []
    for text, encoding in zip(texts, tokenizer.encodings(texts, special), strict=True):
        rows = zip(
            encoding.ids,
            encoding.tokens,
            encoding.special_tokens_mask,
            encoding.offsets,
            strict=True,
        )
        result.append([_token(text, *row) for row in rows])
    return result


def _token(
    text: str, index: int, token: str, special: int, place: tuple[int, int]
) -> dict[str, Any]:
    """A special token stands nowhere in the text."""
    if special:
        return {"id": index, "text": token, "special": True, "start": None, "stop": None}
    start, stop = place
    return {"id": index, "text": text[start:stop], "special": False, "start": start, "stop": stop}


async def decode(state: State, fields: Fields) -> Reply:
    """The texts that token ids stand for."""
    lists = fields.id_lists("ids")
    state.require_batch(len(lists), state.options.max_client_batch_size)
    skip = fields.flag("skip_special_tokens", True)
    texts = await state.service.in_thread(_decode, state, lists, skip)
    return Reply(dumps(texts), batch=len(lists) > 1)


def _decode(state: State, lists: list[list[int]], skip: bool) -> list[str]:
    tokenizer = state.service.preparer.tokenizer(Truncation())
    state.service.preparer.require_known(np.concatenate([np.array(ids) for ids in lists]))
    return [tokenizer.decode(ids, skip) for ids in lists]


async def root(state: State, fields: Fields) -> Reply:
    """What the model is for: clients that know only the server's address post here."""
    for output, handle in (("embedding", embed), ("sparse", embed_sparse)):
        if output in state.encoder.outputs and state.num_labels == 0:
            return await handle(state, fields)
    if state.num_labels == 1 and fields.has("query"):
        return await rerank(state, fields)
    if state.num_labels:
        return await predict(state, fields)
    raise RequestError(EMPTY, "the model has no head, so there is nothing to answer with")
