"""The OpenAPI document of the routes."""

from __future__ import annotations

from typing import Any

import vlt

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}


def array(items: Schema, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": items} | ({"minItems": least} if least else {})


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object; optional fields may be null."""
    nullable = {name: {"anyOf": [of, {"type": "null"}]} for name, of in (optional or {}).items()}
    properties = required | nullable
    return {"type": "object", "properties": properties, "required": list(required)}


def flag(default: bool) -> Schema:
    """True or false."""
    return {"type": "boolean", "default": default}


def one_of(*schemas: Schema) -> Schema:
    """Any of several."""
    return {"anyOf": list(schemas)}


IDS = array({"type": "integer", "minimum": 0}, 1)
INPUTS = one_of(TEXT, IDS, array(one_of(TEXT, IDS), 1))
TEXTS = one_of(TEXT, array(TEXT, 1))
PAIR = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 2}
CUT: dict[str, Schema] = {
    "truncate": {"type": "boolean"},
    "truncation_direction": {"type": "string", "enum": ["right", "left", "Right", "Left"]},
}
PROMPTED = CUT | {"prompt_name": STRING}
DIMENSIONS: dict[str, Schema] = {"dimensions": {"type": "integer", "minimum": 1}}
VECTOR = array(NUMBER)
SCORED = record({"index": INTEGER, "score": NUMBER}, {"text": STRING})
PREDICTION = record({"score": NUMBER, "label": STRING})
SPARSE = record({"index": INTEGER, "value": NUMBER})
PLACE = {"anyOf": [INTEGER, {"type": "null"}]}
TOKEN = record(
    {"id": INTEGER, "text": STRING, "special": flag(False), "start": PLACE, "stop": PLACE}
)
USAGE = record({"prompt_tokens": INTEGER, "total_tokens": INTEGER})
MODEL = record({"id": STRING, "object": STRING, "created": INTEGER, "owned_by": STRING})

EMBED = record({"inputs": INPUTS}, PROMPTED | DIMENSIONS | {"normalize": flag(True)})
RERANK = record(
    {"query": TEXT, "texts": array(STRING, 1)},
    CUT | {"raw_scores": flag(False), "return_text": flag(False)},
)
PREDICT = record({"inputs": one_of(TEXT, PAIR, array(PAIR, 1))}, CUT | {"raw_scores": flag(False)})
EMBEDDINGS = record(
    {"input": INPUTS},
    DIMENSIONS
    | {
        "model": STRING,
        "encoding_format": {"type": "string", "enum": ["float", "base64"]},
        "user": STRING,
        "prompt_name": STRING,
    },
)
EMBEDDING = record({"object": STRING, "index": INTEGER, "embedding": one_of(VECTOR, STRING)})
DOCUMENTS = array(one_of(STRING, record({"text": STRING})), 1)
RANKED = record(
    {"index": INTEGER, "relevance_score": NUMBER}, {"document": record({"text": STRING})}
)
PREDICTIONS = one_of(array(PREDICTION), array(array(PREDICTION)))

# Path -> what it does, what it takes, what it gives.
POSTS: dict[str, tuple[str, Schema, Schema]] = {
    "/": ("What the model is for", one_of(EMBED, RERANK, PREDICT), {}),
    "/embed": ("A vector for each input", EMBED, array(VECTOR)),
    "/embed_all": (
        "A vector for each token of each input",
        record({"inputs": INPUTS}, PROMPTED),
        array(array(VECTOR)),
    ),
    "/embed_sparse": (
        "Weights of words for each input",
        record({"inputs": INPUTS}, PROMPTED),
        array(array(SPARSE)),
    ),
    "/rerank": ("Texts by how well they answer a query", RERANK, array(SCORED)),
    "/predict": ("Labels of texts or pairs", PREDICT, PREDICTIONS),
    "/similarity": (
        "The cosine of a text to each of several others",
        record(
            {"inputs": record({"source_sentence": TEXT, "sentences": array(TEXT, 1)})},
            {"parameters": record({}, PROMPTED)},
        ),
        array(NUMBER),
    ),
    "/tokenize": (
        "The tokens of texts",
        record({"inputs": TEXTS}, {"add_special_tokens": flag(True), "prompt_name": STRING}),
        array(array(TOKEN)),
    ),
    "/decode": (
        "The texts of token ids",
        record({"ids": one_of(IDS, array(IDS, 1))}, {"skip_special_tokens": flag(True)}),
        array(STRING),
    ),
    "/v1/embeddings": (
        "A vector for each input, as OpenAI gives them",
        EMBEDDINGS,
        record({"object": STRING, "data": array(EMBEDDING), "model": STRING, "usage": USAGE}),
    ),
    "/v1/rerank": (
        "Documents by how well they answer a query, as Cohere and Jina give them",
        record(
            {"query": TEXT, "documents": DOCUMENTS},
            {
                "model": STRING,
                "top_n": {"type": "integer", "minimum": 1},
                "return_documents": flag(False),
            },
        ),
        record({"id": STRING, "model": STRING, "results": array(RANKED), "usage": USAGE}),
    ),
}

# Path -> what it says, as which type, and its shape.
GETS: dict[str, tuple[str, str, Schema]] = {
    "/info": (
        "The model and the server's limits",
        "application/json",
        record({"model_id": STRING, "model_type": {"type": "object"}, "version": STRING}),
    ),
    "/v1/models": (
        "The model, as OpenAI lists them",
        "application/json",
        record({"object": STRING, "data": array(MODEL)}),
    ),
    "/metrics": ("Figures for Prometheus", "text/plain", STRING),
}

TEI_ERROR = record({"error": STRING, "error_type": STRING})
OPENAI_ERROR = record({"error": record({"message": STRING, "type": STRING, "code": STRING})})
TEI_STATUSES = (400, 401, 408, 413, 422, 424, 429, 503, 504)
OPENAI_STATUSES = (400, 401, 408, 413, 429, 500, 503, 504)


def document() -> Schema:
    """The whole of it, for /openapi.json."""
    paths: Schema = {
        path: {"post": _operation(path, text, "application/json", answer) | _body(body)}
        for path, (text, body, answer) in POSTS.items()
    }
    for path, (text, media_type, answer) in GETS.items():
        paths.setdefault(path, {})["get"] = _operation(path, text, media_type, answer)
    health = {"200": {"description": "It works"}, "503": {"description": "It does not"}}
    paths["/health"] = {"get": {"summary": "Does the model work?", "responses": health}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "vlt", "version": vlt.__version__},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _operation(path: str, text: str, media_type: str, answer: Schema) -> Schema:
    openai = path.startswith("/v1")
    error = OPENAI_ERROR if openai else TEI_ERROR
    responses = {"200": _content("Done", media_type, answer)}
    for status in OPENAI_STATUSES if openai else TEI_STATUSES:
        responses[str(status)] = _content("Refused or failed", "application/json", error)
    return {"summary": text, "responses": responses}


def _body(schema: Schema) -> Schema:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _content(text: str, media_type: str, schema: Schema) -> Schema:
    return {"description": text, "content": {media_type: {"schema": schema}}}
