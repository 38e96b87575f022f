"""`VltEmbeddings` in the standard tests that LangChain has for embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="needs the package langchain-tests")

from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from vlt.integrations.langchain import VltEmbeddings


class OnTheTinyModel:
    @pytest.fixture(autouse=True)
    def find_weights(self, tiny_weights: Path) -> None:
        self.weights = tiny_weights

    @property
    def embeddings_class(self) -> type[VltEmbeddings]:
        return VltEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"path": self.weights}


class TestUnit(OnTheTinyModel, EmbeddingsUnitTests):  # type: ignore[misc]
    pass


# The mark is for those of its tests that are asynchronous.
@pytest.mark.filterwarnings("ignore:.*it is not an async function")
@pytest.mark.asyncio
class TestIntegration(OnTheTinyModel, EmbeddingsIntegrationTests):  # type: ignore[misc]
    pass
