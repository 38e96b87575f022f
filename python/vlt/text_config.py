"""What a weights file's metadata says about texts: prompts, length, case, similarity."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("vlt")

PROMPT_PREFIX = "prompt."

# Every model has these two, as in sentence-transformers; empty where the file does not say.
DEFAULT_PROMPTS = {"query": "", "document": ""}
# `encode_document` takes the first of these that there is.
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True)
class TextConfig:
    """How texts become token ids and vectors become scores; see docs/WEIGHTS_FILE.md.

    Attributes
    ----------
    max_length : int
        Texts are truncated to this many tokens, special ones included.
    lower_case : bool
        Texts are lower-cased before the tokenizer.
    pool_prompt : bool
        A prompt's tokens take part in pooling.
    prompts : dict of str to str
        Name -> the text put before a sentence.
    default_prompt : str or None
        Name of the prompt used when none is asked for.
    similarity : str
        "cosine", "dot", "euclidean" or "manhattan".
    """

    max_length: int
    lower_case: bool
    pool_prompt: bool
    prompts: dict[str, str]
    default_prompt: str | None
    similarity: str

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], longest: int) -> TextConfig:
        """Read the metadata; `longest` is what the position table covers."""
        return cls(
            max_length=min(int(metadata.get("max_length", longest)), longest),
            lower_case=metadata.get("lower_case", "false") == "true",
            pool_prompt=metadata.get("pooling_include_prompt", "true") == "true",
            prompts={
                key.removeprefix(PROMPT_PREFIX): text
                for key, text in metadata.items()
                if key.startswith(PROMPT_PREFIX)
            },
            default_prompt=metadata.get("default_prompt"),
            similarity=metadata.get("similarity", "cosine"),
        )


def resolve_prompt(
    prompts: Mapping[str, str], default: str | None, name: str | None, prompt: str | None
) -> str:
    """The text to put before sentences: `prompt` itself, or that of `name` or of the default."""
    if prompt is not None:
        if name is not None:
            logger.warning("both prompt and prompt_name are given; prompt_name is ignored")
        return prompt
    if name is None:
        return prompts.get(default, "") if default is not None else ""
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InvalidArgumentError(f"there is no prompt {name!r}; this model's prompts: {known}")
    return prompts[name]
