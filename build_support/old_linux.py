"""Linking for an older Linux than the one that builds: a C library from 2.28 on, as torch's own wheels (RHEL 8, 2018).

glibc keeps every version of a function that ever was, and the linker takes the newest. Its newest is often one in name
alone: 2.34 moved threads from libpthread into libc and called them anew, and so a library that asks for them does not
load on an older machine. The stubs of this file stand before glibc's libraries in the linker's list and have the same
functions in the newest version that is old enough; nobody ever calls them. The C++ library's part is old_linux.cpp.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

OLDEST = (2, 28)
# Where a function lay that is libc's now. What libc always had needs no stub of its own.
MOVED = {"pthread_": "libpthread.so.0", "sem_": "libpthread.so.0", "dl": "libdl.so.2", "shm_": "librt.so.1"}
FUNCTION = re.compile(r"\.text\s+\w+\s+\(?GLIBC_(?P<version>[\d.]+)\)?\s+(?P<name>\w+)$", re.MULTILINE)


def stubs(folder: Path, cxx: str) -> list[Path]:
    """Make the stubs and return their paths; none where the compiler's C library is not glibc, or cannot be read."""
    made = []
    for library, versions in _old_functions(cxx).items():
        path = folder / library
        made.append(path)
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        source, script = folder / f"{library}.c", folder / f"{library}.map"
        source.write_text("".join(f"void {name}(void) {{}}\n" for names in versions.values() for name in names))
        nodes = ((version, "; ".join(sorted(names))) for version, names in sorted(versions.items()))
        script.write_text("".join(f"GLIBC_{version} {{ {names}; }};\n" for version, names in nodes))
        made_by = [*cxx.split(), "-x", "c", "-w", "-fno-builtin", "-fPIC", "-shared", "-nostdlib", source, "-o", path]
        subprocess.run([*made_by, f"-Wl,-soname,{library},--version-script={script}"], check=True)
    return made


def _old_functions(cxx: str) -> dict[str, dict[str, list[str]]]:
    """library -> version -> functions, for the functions whose newest version is too new, and all of libm's.

    A stub of libm takes the name of the whole library, so it must have all.
    """
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for library in ("libc.so.6", "libm.so.6"):
        for name, versions in _versions(library, cxx).items():
            old = [version for version in versions if version <= OLDEST]
            home = next((home for start, home in MOVED.items() if name.startswith(start)), library)
            if old and home != "libc.so.6" and (library == "libm.so.6" or max(versions) > OLDEST):
                found[home][".".join(map(str, max(old)))].append(name)
    return found


def _versions(library: str, cxx: str) -> dict[str, list[tuple[int, ...]]]:
    """The versions that glibc's library has of each of its functions."""
    where = subprocess.run([*cxx.split(), f"-print-file-name={library}"], capture_output=True, text=True).stdout.strip()
    try:
        listed = subprocess.run(["objdump", "-T", where], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return {}
    versions: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for match in FUNCTION.finditer(listed):
        versions[match["name"]].append(tuple(map(int, match["version"].split("."))))
    return versions
