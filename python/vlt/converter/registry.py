"""The model families: a new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable

from . import albert, bert, deberta, deberta_v2, distilbert, electra, mpnet, roberta
from .checkpoint import TensorSource
from .family import EncoderParts
from .json_config import JsonConfig

Family = Callable[[JsonConfig, TensorSource], EncoderParts]

# model_type of config.json -> the function that describes such a model.
FAMILIES: dict[str, Family] = {
    "albert": albert.read,
    "bert": bert.read,
    "camembert": roberta.read,
    "deberta": deberta.read,
    "deberta-v2": deberta_v2.read,
    "distilbert": distilbert.read,
    "electra": electra.read,
    "mpnet": mpnet.read,
    "roberta": roberta.read,
    "xlm-roberta": roberta.read,
}


def find_family(config: JsonConfig) -> Family:
    """The family of a ``config.json``; one that vlt lacks is a `ConversionError`."""
    model_type = config.text("model_type")
    if model_type not in FAMILIES:
        config.refuse("model_type", "one of " + ", ".join(sorted(FAMILIES)))
    return FAMILIES[model_type]
