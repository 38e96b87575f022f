"""Files whose metadata describes no encoder that vlt can run."""

from __future__ import annotations

from hostile.build import parts, tiny_metadata
from hostile.case import Case

REQUIRED = (
    "family",
    "num_layers",
    "hidden_size",
    "num_heads",
    "head_size",
    "intermediate_size",
    "vocab_size",
    "num_positions",
    "num_token_types",
    "position_offset",
    "position_kind",
    "norm_kind",
    "norm_place",
    "norm_eps",
    "activation",
)


def changed(name: str, reason: str, changes: dict[str, str], *words: str) -> Case:
    """The good file with some metadata values set."""
    return Case(name, reason, lambda: parts(tiny_metadata() | changes).encode(), words)


def lacking(key: str) -> Case:
    """The good file without one key."""
    without = {k: v for k, v in tiny_metadata().items() if k != key}
    return Case(
        f"no-{key}",
        "a required key",
        lambda: parts(without).encode(),
        ("lacks the key", f"'{key}'"),
    )


def size(name: str, key: str, value: str, reason: str) -> Case:
    """A size out of its range or not written as the format says."""
    return changed(f"{key}-{name}", reason, {key: value}, f"'{key}' = '{value}'", "an integer from")


def eps(name: str, value: str, reason: str) -> Case:
    """An epsilon that no norm can use."""
    words = f"'norm_eps' = '{value}'", "a decimal number above 0"
    return changed(f"norm-eps-{name}", reason, {"norm_eps": value}, *words)


def head(name: str, reason: str, value: str, *words: str) -> Case:
    """Another embedding head."""
    return changed(f"head-{name}", reason, {"embedding_head": value}, "'embedding_head'", *words)


CASES = [
    changed("version-2", "may mean something else", {"format_version": "2"}, "'2'", "expected '1'"),
    changed("version-01", "not the number's spelling", {"format_version": "01"}, "'01'"),
    changed("format-upper", "values are exact", {"format": "VLT"}, "'VLT'", "not a vlt weights"),
    Case(
        "no-version",
        "a required key",
        lambda: parts({"format": "vlt"}).encode(),
        ("no format_version", "expected '1'"),
    ),
    *(lacking(key) for key in REQUIRED),
    changed("unknown-key", "may be a switch", {"rotary_base": "1e4"}, "'rotary_base'", "later"),
    changed("nameless-prompt", "no NAME", {"prompt.": "a"}, "unknown key 'prompt.'"),
    size("0", "num_layers", "0", "no encoder"),
    size("4097", "num_layers", "4097", "12 names to look up for each"),
    size("2^31-1", "num_layers", "2147483647", "would take hours to name what is missing"),
    size("0", "hidden_size", "0", "rows of nothing"),
    size("2^24+1", "hidden_size", "16777217", "one more than the limit"),
    size("2^31", "hidden_size", "2147483648", "negative as int32"),
    size("2^64", "hidden_size", "18446744073709551616", "0 modulo 2^64"),
    size("minus", "hidden_size", "-4", "no sign"),
    size("plus", "hidden_size", "+4", "no sign"),
    size("space", "hidden_size", " 4", "digits only"),
    size("fraction", "hidden_size", "4.0", "digits only"),
    size("exponent", "hidden_size", "4e0", "digits only"),
    size("hexadecimal", "hidden_size", "0x4", "digits only"),
    size("leading-zero", "hidden_size", "04", "one spelling for a number"),
    size("empty", "hidden_size", "", "digits only"),
    size("other-digits", "hidden_size", "\u0664", "ASCII digits only"),
    size("0", "num_heads", "0", "a division by zero"),
    size("2^24", "head_size", "16777216", "A x D is over the limit"),
    size("6", "position_offset", "6", "no row is left of 6"),
    size("0", "max_length", "0", "no text fits"),
    size("7", "max_length", "7", "past the position table's 6 rows"),
    changed(
        "max-length-past-offset",
        "rows 2 to 6 would be read",
        {"position_offset": "2", "max_length": "5"},
        "'max_length' = '5'",
        "from 1 to 4",
    ),
    eps("nan", "nan", "every norm would be NaN"),
    eps("inf", "inf", "every norm would be 0"),
    eps("0", "0", "a division by zero"),
    eps("negative", "-1e-12", "the root of a negative number"),
    eps("underflow", "1e-60", "0 as float32"),
    eps("overflow", "1e39", "infinite as float32"),
    eps("trailing-space", "1e-12 ", "something follows the number"),
    eps("open-exponent", "1e", "something follows the number"),
    eps("hexadecimal", "0x1p-40", "not decimal"),
    eps("comma", "1,5", "not a number in any program"),
    eps("empty", "", "not a number"),
    changed("position-kind", "of a later version", {"position_kind": "rotary"}, "absolute"),
    changed("norm-kind", "of a later version", {"norm_kind": "rmsnorm"}, "layernorm"),
    changed("norm-place", "of a later version", {"norm_place": "pre"}, "'pre'", "post"),
    changed("activation", "unknown", {"activation": "mish"}, "'mish'", "gelu_tanh, relu or silu"),
    changed("activation-tanh", "of heads only", {"activation": "tanh"}, "'tanh'", "silu"),
    changed("similarity", "unknown", {"similarity": "hamming"}, "'hamming'", "manhattan"),
    changed("lower-case", "true or false", {"lower_case": "True"}, "'True'", "true or false"),
    changed(
        "include-prompt", "true or false", {"pooling_include_prompt": "1"}, "'1'", "true or false"
    ),
    changed("default-prompt", "no such prompt", {"default_prompt": "passage"}, "prompt.NAME"),
    head("empty", "no step", "", "pool:MODE as the first step"),
    head("no-pool", "nothing to normalise", "normalize", "pool:MODE as the first step"),
    head("pool-twice", "pooled already", "pool:mean pool:max", "only be the first"),
    head("unknown-mode", "no such mode", "pool:median", "'median'", "lasttoken"),
    head("no-mode", "no mode", "pool:", "pooling mode ''"),
    head("open-list", "an empty mode", "pool:mean+", "pooling mode ''"),
    head("mode-twice", "twice the same numbers", "pool:mean+mean", "'mean' repeats"),
    head("unknown-step", "no such step", "pool:mean whiten", "'whiten'", "normalize"),
    head("two-spaces", "an empty step", "pool:mean  normalize", "the step ''"),
    head("trailing-space", "an empty step", "pool:mean ", "the step ''"),
    head("tab", "one space separates", "pool:mean\tnormalize", "pooling mode 'mean\\x09normalize'"),
    head("dense-1-first", "counts from 0", "pool:mean dense:1:tanh", "expected dense:0"),
    head("dense-no-index", "no N", "pool:mean dense::tanh", "expected dense:0"),
    head("dense-2^32", "0 modulo 2^32", "pool:mean dense:4294967296:tanh", "expected dense:0"),
    head("dense-no-activation", "no activation", "pool:mean dense:0", "activation ''"),
    head("dense-activation", "unknown", "pool:mean dense:0:selu", "'selu'", "sigmoid"),
    head(
        "dense-absent", "no weights", "pool:mean dense:0:tanh dense:1:tanh", "head.dense.1.weight"
    ),
    head("65-steps", "costs time in every run", "pool:mean" + " normalize" * 64, "more than 64"),
]
