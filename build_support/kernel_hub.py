"""The operators as Hugging Face's kernel hub takes them, made of the wheels of `make release`.

    python build_support/kernel_hub.py dist/*.whl --output build/kernel_hub

A folder `build/<variant>` for each wheel: torch's stable ABI, CPU or CUDA, the processor. It holds what `import
motionops` loads and nothing else of the wheel, and since the hub loads it under a name of its own, from a folder of its
own, its imports are relative. The folder is a repository; `kernels.get_local_kernel(folder)` loads it as `get_kernel`
would.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from build_support.ninja_build import TORCH_TARGET  # noqa: E402

PACKAGE, LIBRARY = "motionops", "motionops/_operators.so"
WHEEL = re.compile(r"motionops-(?P<version>[\d.]+)\+(?P<backend>cpu|cu\d+)-.*_(?P<machine>x86_64|aarch64)\.whl")


def variant(wheel: Path) -> str:
    """The name of the folder of a wheel. ValueError where it is no wheel of the operators."""
    match = WHEEL.fullmatch(wheel.name)
    if match is None:
        raise ValueError(f"{wheel.name}: expected a wheel of `make wheel`, motionops-0.1.0+cu130-…_x86_64.whl")
    oldest = int(TORCH_TARGET.partition("=")[2], 16)
    torch = f"{oldest >> 56}{oldest >> 48 & 255}"
    return f"torch-stable-abi{torch}-{match['backend']}-{match['machine']}-linux"


def imported(text: str) -> set[str]:
    """The modules of the package that one of them loads with itself: not in a function, not for checkers alone."""
    statements = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    found = set()
    for node in statements:
        if (node.module or "").partition(".")[0] == PACKAGE:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def relative(name: str, is_package: bool, text: str) -> str:
    """A module's text with the imports from its own package made relative, in place."""
    lines = text.splitlines(keepends=True)
    depth = name.count(".") + is_package
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == PACKAGE for alias in node.names):
            raise ValueError(
                f"{name}, line {node.lineno}: expected `from {PACKAGE}… import …`, which can be made relative"
            )
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            start = f"from {node.module} import"
            line = lines[node.lineno - 1]
            assert line[node.col_offset :].startswith(start), line
            inside = node.module.removeprefix(PACKAGE).removeprefix(".")
            lines[node.lineno - 1] = line.replace(start, f"from {'.' * max(depth, 1)}{inside} import", 1)
    return "".join(lines)


def modules_of(wheel: zipfile.ZipFile) -> dict[str, PurePosixPath]:
    """The modules that `import motionops` loads, and the files of a wheel that hold them."""
    files = {}
    for path in map(PurePosixPath, wheel.namelist()):
        if path.suffix == ".py" and path.parts[0] == PACKAGE:
            parts = path.with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    wanted, found = [PACKAGE], {}
    while wanted:
        name = wanted.pop()
        if name in files and name not in found:
            found[name] = files[name]
            wanted += [name.rpartition(".")[0], *imported(wheel.read(str(files[name])).decode())]
    return found


def write_variant(wheel: Path, folder: Path, version: int) -> Path:
    """Write the variant of a wheel into a repository's folder, and return its path."""
    target = folder / "build" / variant(wheel)
    with zipfile.ZipFile(wheel) as archive:
        library = archive.read(LIBRARY)
        for name, path in modules_of(archive).items():
            text = relative(name, path.name == "__init__.py", archive.read(str(path)).decode())
            place = target / path.relative_to(PACKAGE)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    (target / Path(LIBRARY).name).write_bytes(library)
    backend: dict[str, object] = {"type": "cpu"}
    if "-cpu-" not in target.name:
        facts = re.search(rb'"cuda_architectures": ?"([^"]*)"', library)
        backend = {"type": "cuda", "archs": facts[1].decode().split() if facts else []}
    identity = f"_{PACKAGE}_{backend['type']}_{hashlib.sha256(library).hexdigest()[:10]}"
    metadata = {
        "name": PACKAGE,
        "id": identity,
        "version": version,
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": backend,
    }
    (target / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, nargs="+", help="as `make wheel` makes them")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "kernel_hub", help="the repository's folder")
    parser.add_argument("--version", type=int, default=1, help="the hub's: one more where something called has changed")
    arguments = parser.parse_args()
    try:
        for wheel in arguments.wheels:
            print(write_variant(wheel, arguments.output, arguments.version))
    except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
