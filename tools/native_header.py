"""Parses vlt.h: its functions, structs and constants. Shared by the checks beside it.

The header keeps to a small part of C, which is all that is understood here: object-like macros of
one integer, anonymous enums with explicit values, structs of plain fields, types of function
pointers, and one declaration a function, each behind VLT_API. Anything else raises an error, so
that nothing is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).parents[1] / "cpp" / "include" / "vlt.h"

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\d+)[ \t]*$", re.MULTILINE)
STRUCT = re.compile(r"typedef struct (\w+) \{(.*?)\} (\w+);", re.DOTALL)
OPAQUE = re.compile(r"typedef struct (\w+) \1;")
ALIAS = re.compile(r"typedef (\w+) (\w+);")
CALLBACK = re.compile(r"typedef ([\w ]+?[ *]+)\(\*(\w+)\)\(([^)]*)\);")
ENUM = re.compile(r"enum \{(.*?)\};", re.DOTALL)
FUNCTION = re.compile(r"VLT_API ([\w ]+?[ *]+)(\w+)\(([^)]*)\);")
VARIABLE = re.compile(r"(.*?[\s*])(\w+)", re.DOTALL)
LINKAGE = re.compile(r'extern "C" \{|\}')


@dataclass
class Function:
    """A function: its result's type, and its arguments' types in order."""

    result: str
    arguments: list[str]


@dataclass
class NativeHeader:
    """What a header declares. Types are spelt with single spaces and without `const`."""

    functions: dict[str, Function] = field(default_factory=dict)
    structs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # (field, type)
    opaque: set[str] = field(default_factory=set)
    constants: dict[str, int] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    callbacks: dict[str, Function] = field(default_factory=dict)  # types of function pointers


def spelling(declared: str) -> str:
    """`const  char *` -> `char*`."""
    words = re.sub(r"\bconst\b", " ", declared).replace("*", " * ").split()
    return " ".join(words).replace(" *", "*")


def parse_variable(text: str) -> tuple[str, str]:
    """(name, type) of a field or an argument."""
    match = VARIABLE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"cannot read the declaration {text.strip()!r} of vlt.h")
    return match[2], spelling(match[1])


def parse_enum(body: str, header: NativeHeader) -> None:
    for item in filter(None, (part.strip() for part in body.split(","))):
        name, _, value = item.partition("=")
        header.constants[name.strip()] = int(value)  # an implicit value is an error, on purpose


def parse(text: str) -> NativeHeader:
    """Parse a header's text.

    Raises
    ------
    ValueError
        A part of it is none of the declarations that this module knows.
    """
    header = NativeHeader()
    text = COMMENT.sub(" ", text)
    header.constants.update((name, int(value)) for name, value in MACRO.findall(text))
    text = DIRECTIVE.sub("", text)
    for body in ENUM.findall(text):
        parse_enum(body, header)
    for name, body, _ in STRUCT.findall(text):
        fields = filter(None, (part.strip() for part in body.split(";")))
        header.structs[name] = [parse_variable(part) for part in fields]
    header.opaque.update(OPAQUE.findall(text))
    header.aliases.update((name, target) for target, name in ALIAS.findall(text))
    header.functions = parse_functions(FUNCTION, text)
    header.callbacks = parse_functions(CALLBACK, text)
    check_nothing_left(text)
    return header


def parse_functions(pattern: re.Pattern[str], text: str) -> dict[str, Function]:
    functions = {}
    for result, name, arguments in pattern.findall(text):
        declared = [] if arguments == "void" else arguments.split(",")
        types = [parse_variable(part)[1] for part in declared]
        functions[name] = Function(spelling(result), types)
    return functions


def check_nothing_left(text: str) -> None:
    for pattern in (FUNCTION, CALLBACK, STRUCT, OPAQUE, ENUM, ALIAS, LINKAGE):
        text = pattern.sub("", text)
    if text.strip():
        raise ValueError(f"cannot read this part of vlt.h: {text.strip()[:200]!r}")
