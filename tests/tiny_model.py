"""What tests know of the tiny model, which conftest.py makes."""

PROMPTS = {"query": "who is ", "document": "the paper : ", "passage": "under "}
TINY_MAX_LENGTH = 64  # of token ids
TINY_TEXT_LENGTH = 24  # of texts
