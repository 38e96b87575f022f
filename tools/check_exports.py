"""Check that a built library exports what vlt.h declares and nothing else.

    python tools/check_exports.py LIBRARY

A symbol that leaks out, one of the C++ runtime above all, can be taken for that of another library
in the same process. Needs `nm` of the binutils. Prints every difference and fails if there is one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import native_header


def exported_symbols(library: Path) -> set[str]:
    """Names of the dynamic symbols that the library defines, without their versions."""
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", str(library)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in output.splitlines())
    # Type A is absolute: the name of the version itself.
    return {row[0].split("@")[0] for row in rows if row[1] != "A"}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    library = Path(arguments[0])
    declared = set(native_header.parse(native_header.PATH.read_text()).functions)
    exported = exported_symbols(library)
    for name in sorted(exported - declared):
        print(f"{library} exports {name}, which vlt.h does not declare")
    for name in sorted(declared - exported):
        print(f"{library} does not export {name}, which vlt.h declares")
    return 1 if exported != declared else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
