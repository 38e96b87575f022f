"""Check the dependency law: which folder may include or import which.

    python tools/check_dependencies.py [ROOT]

Prints every line that breaks the law and fails if there is one. ROOT is the repository.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# Folder of cpp/ -> beginnings of the project headers that its files may include.
BACKEND = ("kernels/backend.h", "kernels/device.h", "kernels/device_failure.h", "kernels/enums.h")
MAY_INCLUDE: dict[str, tuple[str, ...]] = {
    "base": ("base/",),
    "allocator": ("allocator/",),
    "scheduler": ("scheduler/",),
    "kernels": ("kernels/",),  # registry.cpp, which lists the devices
    "kernels/cpu": ("kernels/cpu/", *BACKEND),
    "kernels/cuda": ("kernels/cuda/", *BACKEND),
    "kernels/reference": ("kernels/reference/", *BACKEND),
    "model": ("model/", "base/", *BACKEND),
    "encoder": ("encoder/", "model/", "allocator/", "scheduler/", "base/", *BACKEND),
    "api": ("",),  # ties everything together; alone in knowing vlt.h
    "include": (),
}
FRAMEWORKS = ("ATen", "Python.h", "c10", "onnxruntime", "pybind11", "tensorflow", "torch")

# The Python package: what a module may import when it is loaded, and what a function may import
# once it is needed. torch and scipy only to hand results over to a caller who asked for theirs.
AT_LOAD = {"numpy", "vlt"}
WHEN_NEEDED = {"scipy", "tokenizers", "torch"}
# Modules for another library -> what they alone may import, and when they are loaded.
INTEGRATIONS = {
    Path("integrations/langchain.py"): {"langchain_core", "pydantic"},
    Path("integrations/llama_index.py"): {"llama_index"},
    Path("integrations/sklearn.py"): {"sklearn"},
    Path("server/tracing.py"): {"opentelemetry"},
}
# Folders for other libraries -> what their modules alone may import, and when they are loaded.
FOLDERS = {
    Path("ray"): {"ray", "starlette"},
    Path("server"): {"orjson", "prometheus_client", "starlette", "uvicorn"},
}
# Modules that may import ctypes -> what for.
CTYPES_MODULES = {
    Path("_native.py"): "the bridge to libvlt",
    Path("_native_scheduling.py"): "the bridge to its scheduler",
    Path("_dlpack.py"): "capsules with arrays, made and opened by Python's own C interface",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = {".h", ".cpp", ".c", ".cu", ".cuh", ".inc"}


def check_include(folder: str, bracket: str, header: str) -> str | None:
    """Why a file of `folder` may not include `header`; None where it may."""
    if header.split("/")[0] in FRAMEWORKS:
        return "no framework may be included anywhere"
    if bracket == "<":
        return None
    if folder not in MAY_INCLUDE:
        return f"cpp/{folder} has no line in MAY_INCLUDE of tools/check_dependencies.py"
    if not header.startswith(MAY_INCLUDE[folder]):
        return f"cpp/{folder} may include {', '.join(MAY_INCLUDE[folder]) or 'nothing of vlt'}"
    return None


def check_cpp(root: Path) -> Iterator[str]:
    """Violations among the #include lines of cpp/."""
    for path in sorted((root / "cpp").rglob("*")):
        if path.suffix not in SOURCES:
            continue
        folder = path.parent.relative_to(root / "cpp").as_posix()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            reason = check_include(folder, *match.groups()) if match else None
            if reason:
                yield f"{path.relative_to(root)}:{number}: {line.strip()}: {reason}"


def is_type_checking(node: ast.AST) -> bool:
    """Is it `if TYPE_CHECKING:`, whose body never runs?"""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node: ast.AST, in_function: bool = False) -> Iterator[tuple[int, str, bool]]:
    """(line, top-level module, inside a function?) of every absolute import that can run."""
    if is_type_checking(node):
        return
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name.split(".")[0], in_function) for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.lineno, node.module.split(".")[0], in_function
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        yield from imports(child, inside)


def check_import(module: Path, name: str, in_function: bool) -> str | None:
    """Why a module of the package may not import `name`; None where it may."""
    if name == "ctypes":
        allowed = ", ".join(map(str, CTYPES_MODULES))
        return None if module in CTYPES_MODULES else f"only {allowed} may import ctypes"
    own = INTEGRATIONS.get(module, set()) | FOLDERS.get(module.parent, set())
    if name in sys.stdlib_module_names or name in AT_LOAD | own:
        return None
    if name in WHEN_NEEDED:
        return None if in_function else f"{name} may be imported only inside a function"
    return (
        "the package depends on numpy and tokenizers alone, but for modules of integrations/, ray/ "
        "and server/"
    )


def check_python(root: Path) -> Iterator[str]:
    """Violations among the imports of the Python package."""
    package = root / "python" / "vlt"
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"), str(path))
        for line, name, in_function in imports(tree):
            reason = check_import(path.relative_to(package), name, in_function)
            if reason:
                yield f"{path.relative_to(root)}:{line}: import {name}: {reason}"


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    violations = [*check_cpp(root), *check_python(root)]
    print(*violations, sep="\n", end="\n" if violations else "")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
