"""Headers that are not the JSON that the format allows."""

from __future__ import annotations

from hostile.build import encode, parts
from hostile.case import Case, replaced

WORD = b'"embeddings.word":'
SHAPE = b'"shape":[10,4]'
OFFSETS = b'"data_offsets":[0,160]'
NOTE = b'"x.note":"ours"'


def spoilt(name: str, reason: str, old: bytes, new: bytes, *words: str) -> Case:
    """The good header with one piece of its text replaced."""

    def build() -> bytes:
        good = parts()
        return encode(replaced(good.header(), old, new), good.data)

    return Case(name, reason, build, ("of its header", *words))


def whole(name: str, reason: str, header: bytes, *words: str) -> Case:
    """Another header altogether."""
    return Case(name, reason, lambda: encode(header, b""), ("of its header", *words))


def note(name: str, reason: str, value: bytes, *words: str) -> Case:
    """The good header with another text between the quotes of one metadata value."""
    return spoilt(name, reason, NOTE, b'"x.note":"' + value + b'"', *words)


def many_tensors() -> bytes:
    one = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return encode(b"{" + b",".join(one % i for i in range(65537)) + b"}", b"")


def many_keys() -> bytes:
    pairs = b",".join(b'"x.%d":""' % i for i in range(65537))
    return encode(b'{"__metadata__":{' + pairs + b"}}", b"")


CASES = [
    # Structure
    whole("only-spaces", "no object at all", b" " * 56, "byte 0", "'{'"),
    whole("array", "the wrong kind of value", b"[]", "byte 0", "found '['"),
    whole("space-first", "the format's first byte is '{'", b' {"a":1}', "byte 0", "'{'"),
    whole("open", "the object never closes", b"{", "the header's end", "key in double quotes"),
    whole("deep-arrays", "100,000 levels", b"[" * 100_000, "byte 0"),
    whole("deep-objects", "100,000 levels", b'{"a":' * 100_000, "the key 'a' of tensor 'a'"),
    spoilt("deep-shape", "nested dimensions", SHAPE, b'"shape":' + b"[" * 50_000, "found '[[["),
    spoilt("trailing-comma", "not JSON", NOTE + b"}", NOTE + b",}", "key in double quotes"),
    spoilt("missing-comma", "not JSON", b',"shape":[10,4]', b'"shape":[10,4]', "'}' or ','"),
    spoilt("missing-colon", "not JSON", WORD, b'"embeddings.word"', "':' after the key"),
    spoilt("single-quotes", "not JSON", NOTE, b"'x.note':'ours'", "double quotes"),
    spoilt("comment", "not JSON", b'{"format"', b'{/**/"format"', "double quotes"),
    whole("text-after", "bytes that readers see differently", b"{} {}", "nothing but spaces"),
    whole("nul-padding", "only spaces may pad", b"{}\0\0", "byte 2", "nothing but spaces"),
    whole("newline-padding", "only spaces may pad", b"{}\n", "byte 2", "nothing but spaces"),
    # Keys
    spoilt("tensor-twice", "which one counts?", b'"_pad.1":', WORD, "'embeddings.word' repeats"),
    spoilt("metadata-key-twice", "which one counts?", NOTE, b'"format":"vlt"', "'format' repeats"),
    spoilt("field-twice", "which one counts?", SHAPE, SHAPE + b"," + SHAPE, "'shape' repeats"),
    spoilt("metadata-twice", "which one counts?", WORD, b'"__metadata__":', "repeats"),
    spoilt(
        "escaped-twin",
        "the same key once the escape is read",
        NOTE,
        b'"x.a":"1","x.\\u0061":"2"',
        "'x.a' repeats",
    ),
    spoilt("unknown-field", "it may change meaning", SHAPE, SHAPE + b',"scale":2', "'scale'"),
    spoilt("no-shape", "nothing to go by", b"," + SHAPE, b"", "2 of the three keys", "shape"),
    spoilt("no-offsets", "nothing to go by", b"," + OFFSETS, b"", "2 of the three keys"),
    spoilt("tensor-is-number", "the wrong kind of value", WORD, b'"w":1,' + WORD, "open an object"),
    spoilt(
        "metadata-number", "values are strings", b'"num_layers":"1"', b'"num_layers":1', "string"
    ),
    spoilt("metadata-nested", "values are strings", NOTE, b'"x.note":{"a":"b"}', "a string"),
    spoilt("metadata-null", "values are strings", NOTE, b'"x.note":null', "a string"),
    # Numbers
    spoilt("plus", "no sign", SHAPE, b'"shape":[+10,4]', "'+10'", "without a sign"),
    spoilt("minus", "no sign", SHAPE, b'"shape":[-10,4]', "'-10'", "without a sign"),
    spoilt("minus-zero", "no sign", OFFSETS, b'"data_offsets":[-0,160]', "'-0'", "sign"),
    spoilt("fraction", "integers only", SHAPE, b'"shape":[10.0,4]', "'10.0'", "fraction"),
    spoilt("exponent", "integers only", SHAPE, b'"shape":[1e1,4]', "'1e1'", "exponent"),
    spoilt("leading-zero", "octal to some readers", SHAPE, b'"shape":[010,4]', "leading zeros"),
    spoilt("hexadecimal", "decimal only", SHAPE, b'"shape":[0xA,4]', "found 'x'"),
    spoilt("string-number", "a number", SHAPE, b'"shape":["10",4]', "decimal digits"),
    spoilt("nan-dimension", "a number", SHAPE, b'"shape":[NaN,4]', "'NaN'"),
    spoilt("dimension-2^63", "not int64", SHAPE, b'"shape":[9223372036854775808,4]', "up to 92233"),
    spoilt(
        "offset-2^64",
        "wraps around to 0",
        OFFSETS,
        b'"data_offsets":[0,18446744073709551616]',
        "up to 18446744073709551615",
    ),
    spoilt("long-number", "10,000 digits", SHAPE, b'"shape":[' + b"9" * 10_000, "up to"),
    spoilt("one-offset", "no end", OFFSETS, b'"data_offsets":[0]', "between the two"),
    spoilt("three-offsets", "too many", OFFSETS, b'"data_offsets":[0,160,1]', "after the two"),
    spoilt(
        "nine-dimensions",
        "more than any tensor has",
        SHAPE,
        b'"shape":[1,1,1,1,1,1,1,10,4]',
        "more than 8 dimensions",
    ),
    # Strings
    note("overlong", "a slash in two bytes", b"\xc0\xaf", "'\\xc0'", "valid UTF-8"),
    note("overlong-3", "a slash in three bytes", b"\xe0\x80\xaf", "valid UTF-8"),
    note("stray-continuation", "no lead byte", b"\x80", "'\\x80'", "valid UTF-8"),
    note("cut-sequence", "two bytes of three", b"\xe2\x82", "valid UTF-8"),
    note("encoded-surrogate", "not a character", b"\xed\xa0\x80", "valid UTF-8"),
    note("past-10ffff", "not a character", b"\xf4\x90\x80\x80", "valid UTF-8"),
    note("latin-1", "not UTF-8", b"caf\xe9", "valid UTF-8"),
    note("raw-newline", "control bytes are escaped", b"a\nb", "control bytes"),
    note("raw-nul", "control bytes are escaped", b"a\0b", "control bytes"),
    note("bad-escape", "no such escape", b"\\x41", "after a backslash"),
    note("bad-hex", "four digits", b"\\u00g0", "four hexadecimal digits"),
    note("short-hex", "four digits", b"\\u12", "four hexadecimal digits"),
    note("lone-high", "half a character", b"\\ud83d", "half a surrogate pair"),
    note("lone-low", "half a character", b"\\ude00", "half a surrogate pair"),
    note("two-highs", "half a character", b"\\ud83d\\ud83d", "without its low one"),
    note("escaped-nul", "cuts a C string short", b"a\\u0000b", "\\u0000"),
    whole("open-string", "the string never closes", b'{"a', "'\"' to close a string"),
    whole("open-escape", "the escape never ends", b'{"\\', "after a backslash"),
    # Counts
    Case("many-tensors", "costs more than it weighs", many_tensors, ("more than 65536 tensors",)),
    Case("many-keys", "costs more than it weighs", many_keys, ("more than 65536 metadata keys",)),
]
