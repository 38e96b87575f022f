"""What many would write: sentence-transformers behind FastAPI. For bench_serving.py.

python tools/peers/fastapi_server.py MODEL_FOLDER PORT THREADS
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Request(BaseModel):  # type: ignore[misc]
    inputs: str | list[str]


def create_app(model: Any) -> Any:
    """One route; FastAPI runs it in a thread, as it does all that are not asynchronous."""
    app = FastAPI()

    def embed(request: Request) -> list[list[float]]:
        texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
        vectors: list[list[float]] = model.encode(texts, normalize_embeddings=True).tolist()
        return vectors

    # Not as a decorator, and with its types evaluated: FastAPI reads them.
    embed.__annotations__ = {"request": Request}
    app.post("/embed")(embed)
    app.get("/health")(lambda: "ok")
    return app


if __name__ == "__main__":
    folder, port, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    app = create_app(SentenceTransformer(folder, device="cpu"))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")
