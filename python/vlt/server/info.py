"""What /info says of the model and of the server's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vlt

if TYPE_CHECKING:
    from .state import State

# A pooling step of the weights file -> what text-embeddings-inference calls it.
POOLING = {"lasttoken": "last_token"}


def info_of(state: State) -> dict[str, Any]:
    """The fields of text-embeddings-inference, and `device` and `kernels` besides."""
    encoder, options, settings = state.encoder, state.options, state.service.settings
    return {
        "model_id": options.model_name,
        "model_sha": None,
        "model_dtype": encoder.dtype,
        "model_type": _model_type(state),
        "served_model_name": options.model_name,
        "max_concurrent_requests": options.max_concurrent_requests,
        "max_input_length": encoder.max_seq_length,
        "max_batch_tokens": settings.batch_tokens(encoder),
        "max_batch_requests": settings.max_batch_requests,
        "max_client_batch_size": options.max_client_batch_size,
        "auto_truncate": options.auto_truncate,
        "tokenization_workers": settings.tokenizing_threads,
        "version": vlt.__version__,
        "sha": None,
        "docker_label": None,
        "device": encoder.device,
        "kernels": encoder.kernels,
    }


def _model_type(state: State) -> dict[str, Any]:
    """What the model is for: the first of its heads that the server has a route for."""
    if state.num_labels:
        names = state.labels
        labels = {
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
        }
        return {"reranker" if len(names) == 1 else "classifier": labels}
    if "sparse" in state.encoder.outputs:
        return {"embedding": {"pooling": "splade"}}
    steps = [step.split(":") for step in state.encoder.config.get("embedding_head", "").split()]
    modes = [POOLING.get(mode, mode) for kind, mode, *_ in (s for s in steps if s[0] == "pool")]
    return {"embedding": {"pooling": "+".join(modes) or "none"}}
