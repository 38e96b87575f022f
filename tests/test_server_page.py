"""The server's own page, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")
pytest.importorskip("websocket", reason="needs websocket-client to speak to the browser")

from browser import Page, chromium, open_page
from http_server import running

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs chromium")

TEXT, OTHERS = "a dog runs", ["a cat runs", "the river under the world", "banana"]


def submit(page: Page, form: str, **values: str) -> None:
    """Fill in a form's fields and press its button."""
    for name, value in values.items():
        page.evaluate(f"document.getElementById('{name}').value = {json.dumps(value)}")
    page.evaluate(f"document.querySelector('#{form} button').click()")


def shown(page: Page) -> list[tuple[float, str]]:
    """The rows of the answer."""
    rows = page.wait_for(
        "[...document.querySelectorAll('#results li')].map("
        "row => [row.querySelector('b').textContent, row.querySelector('span').textContent])"
        ".filter(row => row[0])"
    )
    return [(float(number), text) for number, text in rows]


def test_the_page_shows_model_and_figures_and_answers(
    tiny_encoder: vlt.Encoder, tmp_path: Path
) -> None:
    options = {"model_name": "tiny", "api_key": "geheim"}
    with running(tiny_encoder, options) as server, open_page(server.url, tmp_path) as page:
        page.wait_for("!document.getElementById('unlock').hidden")
        assert page.evaluate("document.getElementById('try').hidden")
        submit(page, "unlock", key="geheim")
        page.wait_for("!document.getElementById('try').hidden")
        assert page.evaluate("document.title") == "tiny"
        assert "embedding model in float32" in page.evaluate(
            "document.getElementById('about').textContent"
        )
        submit(page, "ask", text=TEXT, others="\n".join(OTHERS))
        page.wait_for("document.querySelectorAll('#results li').length")
        expected = tiny_encoder.similarity(tiny_encoder.encode(TEXT), tiny_encoder.encode(OTHERS))
        scores = [f"{score:.4f}" for score in expected[0].tolist()]
        assert shown(page) == [
            (float(score), text) for score, text in zip(scores, OTHERS, strict=True)
        ]
        figures = "Object.fromEntries([...document.querySelectorAll('#figures div')].map(" + (
            "each => [...each.children].map(child => child.textContent)))"
        )
        page.wait_for(f"Number(({figures})['Requests']) >= 1")
        names = page.evaluate(f"Object.keys({figures})")
        assert {"Requests a second", "Tokens a second", "Inputs waiting", "Memory"} < set(names)
        submit(page, "ask", text=TEXT, others="\n".join(["a"] * 40))
        page.wait_for("document.getElementById('problem').textContent.includes('32 inputs')")
        assert {url.split("?")[0].startswith(server.url) for url in page.requests} == {True}
        refused = [text for text in page.complaints if "status of 4" not in text]
        assert not refused


def test_the_page_ranks_documents(headed: Callable[..., Path], tmp_path: Path) -> None:
    with (
        vlt.Encoder(headed("rerank")) as encoder,
        running(encoder) as server,
        open_page(server.url, tmp_path) as page,
    ):
        page.wait_for("!document.getElementById('try').hidden")
        submit(page, "ask", text=TEXT, others="\n".join(OTHERS))
        page.wait_for("document.querySelectorAll('#results li').length")
        found = shown(page)
        assert sorted(text for _, text in found) == sorted(OTHERS)
        assert [score for score, _ in found] == sorted((s for s, _ in found), reverse=True)
        assert not page.complaints
