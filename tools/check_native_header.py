"""Check that the ctypes declarations of the Python package are those of vlt.h.

    python tools/check_native_header.py [ROOT]

Compares functions with their types, structs with their fields, and constants; prints every
difference and fails if there is one. ROOT is the repository. Needs no built library.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import native_header
from native_header import NativeHeader

SCALARS: dict[str, Any] = {
    "void": None,
    "char*": ctypes.c_char_p,
    "void*": ctypes.c_void_p,
    "double": ctypes.c_double,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}

# Table of _native.py -> where its names stand in vlt.h.
CONSTANT_TABLES = {
    "DEVICES": ("VLT_DEVICE_",),
    "DTYPES": ("VLT_DTYPE_", "VLT_"),
    "OUTPUTS": ("VLT_OUTPUT_",),
    "MEMORY": ("VLT_MEMORY_",),
    "LOG_LEVELS": ("VLT_LOG_",),
    "POLICIES": ("VLT_POLICY_",),
}


def import_native(root: Path) -> ModuleType:
    """The package's `_native`, with a stand-in for the library that it loads."""
    sys.path.insert(0, str(root / "python"))
    version = native_header.parse((root / "cpp/include/vlt.h").read_text()).constants
    library = mock.MagicMock()
    library.vlt_abi_version.return_value = version["VLT_ABI_VERSION"]
    library.vlt_build_info.return_value = b'{"version": ""}'
    with (
        mock.patch.dict(os.environ, {"VLT_LIBRARY": __file__}),
        mock.patch.object(ctypes, "CDLL", return_value=library),
    ):
        return importlib.import_module("vlt._native")


def struct_class(name: str) -> str:
    """vlt_model_info -> VltModelInfo"""
    return "".join(word.capitalize() for word in name.split("_"))


def ctypes_of(declared: str, header: NativeHeader, native: ModuleType) -> Any:
    """The ctypes type for a type of vlt.h: handles are void*, structs are their classes."""
    declared = header.aliases.get(declared, declared)
    if declared in SCALARS:
        return SCALARS[declared]
    if declared in header.callbacks:
        function = header.callbacks[declared]
        types = (function.result, *function.arguments)
        return ctypes.CFUNCTYPE(*(ctypes_of(each, header, native) for each in types))
    if declared.endswith("*"):
        target = declared[:-1]
        if target in header.opaque:
            return ctypes.c_void_p
        return ctypes.POINTER(ctypes_of(target, header, native))
    return getattr(native, struct_class(declared))


def compare(what: str, declared: object, found: object) -> Iterator[str]:
    if declared != found:
        yield f"{what}: vlt.h has {declared}, _native.py has {found}"


def compare_functions(header: NativeHeader, native: ModuleType) -> Iterator[str]:
    """Names in the same order; results and arguments of the same types."""
    yield from compare("functions", list(header.functions), list(native.FUNCTIONS))
    for name, function in header.functions.items():
        if name in native.FUNCTIONS:
            types = (function.result, *function.arguments)
            result, *arguments = (ctypes_of(each, header, native) for each in types)
            yield from compare(name, (result, arguments), native.FUNCTIONS[name])


def compare_structs(header: NativeHeader, native: ModuleType) -> Iterator[str]:
    """Every struct has its class, with the same fields in the same order."""
    classes = [name for name in vars(native) if name.startswith("Vlt")]
    yield from compare("structs", [struct_class(name) for name in header.structs], classes)
    for name, fields in header.structs.items():
        if struct_class(name) in classes:
            wanted = [(field, ctypes_of(kind, header, native)) for field, kind in fields]
            yield from compare(name, wanted, getattr(native, struct_class(name))._fields_)


def compare_constants(header: NativeHeader, native: ModuleType) -> Iterator[str]:
    """Every constant of vlt.h stands in its table, and every table's entry in vlt.h."""
    found = {"VLT_ABI_VERSION": native.ABI_VERSION, "VLT_OK": native.OK}
    for table, prefixes in CONSTANT_TABLES.items():
        for name, value in getattr(native, table).items():
            candidates = [prefix + name.upper() for prefix in prefixes]
            known = [each for each in candidates if each in header.constants]
            found[known[0] if known else candidates[0]] = value
    others = {k: v for k, v in header.constants.items() if k in found}
    yield from compare("constants", others, found)
    failures = {v for k, v in header.constants.items() if k not in found}
    yield from compare("failing statuses", failures, set(native.EXCEPTIONS))


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    header = native_header.parse((root / "cpp/include/vlt.h").read_text())
    native = import_native(root)
    comparisons = (compare_functions, compare_structs, compare_constants)
    differences = [line for each in comparisons for line in each(header, native)]
    print(*differences, sep="\n", end="\n" if differences else "")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
