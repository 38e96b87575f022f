"""The heads of transformers' own models: labels of texts, labels of tokens, scores of words."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .family import DenseName, EncoderParts
from .json_config import JsonConfig
from .tensor_reader import RoleTensor, TensorReader

# How transformers writes the kind of a classification -> how vlt does.
_PROBLEMS = {
    "regression": "regression",
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
}
_QUESTION_LABELS = ["start", "end"]


@dataclass
class Head:
    """What one or several heads add to a weights file."""

    metadata: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, RoleTensor] = field(default_factory=dict)


def read_own_head(config: JsonConfig, encoder: EncoderParts) -> Head | None:
    """The head that `config.json` says the checkpoint has; None for an encoder alone.

    Of a model of masked words there may be nothing but the encoder: then there is no head.
    """
    kind = _kind(config)
    if kind == "ForSequenceClassification":
        return read_sequence_head(config, encoder)
    if kind == "ForTokenClassification":
        return _read_token_head(encoder, "classifier", read_labels(config))
    if kind == "ForQuestionAnswering":
        return _read_token_head(encoder, "qa_outputs", _QUESTION_LABELS)
    if kind in ("ForMaskedLM", "ForPreTraining"):
        dense = encoder.heads.vocabulary.dense.name
        if encoder.reader.outside.has(f"{dense}.weight"):
            return read_vocabulary_head(config, encoder)
    return None


def read_sequence_head(config: JsonConfig, encoder: EncoderParts) -> Head:
    """The head that labels a text, from the state of its first token."""
    labels = read_labels(config)
    head = Head({"sequence_head": "pool:cls"} | _label_metadata(labels))
    sizes = [encoder.sizes.hidden_size] * len(encoder.heads.sequence) + [len(labels)]
    for number, dense in enumerate(encoder.heads.sequence):
        head.metadata["sequence_head"] += f" dense:{number}:{dense.activation}"
        head.tensors |= _dense(
            encoder.reader, f"sequence_head.dense.{number}", dense, sizes[number], sizes[number + 1]
        )
    if config.has("problem_type"):
        problem = config.text("problem_type")
        if problem not in _PROBLEMS:
            config.refuse("problem_type", "one of " + ", ".join(_PROBLEMS))
        head.metadata["problem"] = _PROBLEMS[problem]
    return head


def read_vocabulary_head(config: JsonConfig, encoder: EncoderParts) -> Head:
    """The head that scores every word of the vocabulary at every token."""
    names, reader = encoder.heads.vocabulary, encoder.reader.outside
    hidden, words = encoder.sizes.hidden_size, encoder.sizes.vocab_size
    size = encoder.sizes.word_size
    head = Head({"vocabulary_head": f"dense:0:{names.dense.activation} norm:0 decoder"})
    head.tensors |= _dense(reader, "vocabulary_head.dense.0", names.dense, hidden, size)
    head.tensors |= reader.norm("vocabulary_head.norm.0", names.norm, size)
    head.tensors |= _decoder(config, encoder)
    # transformers writes one of two, or both; then the decoder's own counts.
    own = f"{names.decoder}.bias"
    bias = own if reader.has(own) else names.bias
    head.tensors |= reader.single("vocabulary_head.decoder.bias", bias, (words,))
    return head


def read_labels(config: JsonConfig) -> list[str]:
    """The names of a head's outputs: ``id2label``, or as many as ``num_labels`` says."""
    if not config.has("id2label"):
        count = config.integer("num_labels", minimum=1, default=2)
        return [f"LABEL_{number}" for number in range(count)]
    names = config.fields["id2label"]
    if not isinstance(names, dict) or not names:
        config.refuse("id2label", "an object from 0, 1, … to names")
    labels = [names.get(str(number)) for number in range(len(names))]
    if not all(isinstance(label, str) and "\0" not in label for label in labels):
        config.refuse("id2label", "an object from 0, 1, … to names without NUL characters")
    return [str(label) for label in labels]


def _kind(config: JsonConfig) -> str:
    """The class that wrote the checkpoint, from its "For" on; empty for an encoder alone."""
    names = config.fields.get("architectures") or [""]
    if not isinstance(names, list) or not isinstance(names[0], str):
        config.refuse("architectures", "a list of class names")
    start = names[0].find("For")
    return names[0][start:] if start > 0 else ""


def _label_metadata(labels: list[str]) -> dict[str, str]:
    return {f"label.{number}": label for number, label in enumerate(labels)}


def _read_token_head(encoder: EncoderParts, name: str, labels: list[str]) -> Head:
    head = Head({"token_head": "dense:0:identity"} | _label_metadata(labels))
    head.tensors |= _dense(
        encoder.reader,
        "token_head.dense.0",
        DenseName(name),
        encoder.sizes.hidden_size,
        len(labels),
    )
    return head


def _dense(
    reader: TensorReader, role: str, dense: DenseName, inputs: int, outputs: int
) -> dict[str, RoleTensor]:
    place = reader if dense.inside else reader.outside
    return place.linear(role, [dense.name], outputs, inputs)


def _decoder(config: JsonConfig, encoder: EncoderParts) -> dict[str, RoleTensor]:
    """The decoder's weight; nothing where the word embeddings serve.

    A checkpoint may have it although it is tied. transformers ties the two only if they are
    equal, whatever the configuration says.
    """
    name, reader = encoder.heads.vocabulary.decoder, encoder.reader.outside
    if name is None:
        return {}
    tied = config.flag("tie_word_embeddings", default=True)
    if tied and not reader.has(f"{name}.weight"):
        return {}
    shape = (encoder.sizes.vocab_size, encoder.sizes.word_size)
    decoder = reader.take(f"{name}.weight", shape)
    (words,) = encoder.tensors["embeddings.word"].parts
    if decoder.dtype == words.dtype and np.array_equal(decoder.array, words.array):
        return {}
    return {"vocabulary_head.decoder.weight": RoleTensor(shape, (decoder,))}
