"""The tree keeps its shape: operators and methods have all of their files, torch stays in the bindings, and what is
imported lies below."""

import ast
import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

import motionops

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
LIST = json.loads((CSRC / "sources.json").read_text())
OPS = LIST["ops"]

SIBLINGS = [
    "csrc/{stem}.h",
    "csrc/{stem}.cu",
    "csrc/{stem}_cpu.cpp",
    "csrc/{stem}_torch.cpp",
    "motionops/{stem}.py",
    "tests/{family}/card_{op}.py",
    "tests/{family}/test_{op}.py",
    "benchmarks/{family}/bench_{op}.py",
]


def sources(*suffixes: str) -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in suffixes)


def relative(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("stem", OPS)
def test_an_operator_has_all_its_files(stem, sibling):
    family, op = stem.split("/")
    path = sibling.format(stem=stem, family=family, op=op)
    assert (ROOT / path).exists(), f"{stem} is in csrc/sources.json, but {path} is missing"


@pytest.mark.parametrize("stem", OPS)
def test_an_operator_is_public(stem):
    import motionops

    op = stem.split("/")[1]
    assert getattr(motionops, op) is getattr(import_module(f"motionops.{stem.replace('/', '.')}"), op)
    assert op in motionops.__all__


@pytest.mark.parametrize("family", sorted({stem.split("/")[0] for stem in OPS}))
def test_a_family_hands_out_its_functions(family):
    """And not its modules, some of which have the names of functions."""
    import motionops

    package = import_module(f"motionops.{family}")
    for name in package.__all__:
        value = getattr(package, name)
        assert not inspect.ismodule(value), f"{package.__name__}.{name} is a module"
        assert getattr(motionops, name, value) is value
    homes = {name: getattr(getattr(motionops, name), "__module__", "") for name in motionops.__all__}
    own = [name for name, home in homes.items() if home.startswith(f"{package.__name__}.")]
    assert own
    assert set(own) <= set(package.__all__)


def test_every_source_is_listed():
    listed = {LIST["facts"], *LIST["cpu"], *LIST["cuda"]}
    listed |= {stem + ending for stem in OPS for ending in (".cu", "_cpu.cpp", "_torch.cpp")}
    assert {relative(path) for path in sources(".cpp", ".cu")} == listed


def test_no_cpp_beside_a_cu_of_the_same_name():
    both = [relative(path) for path in sources(".cu") if path.with_suffix(".cpp").exists()]
    assert not both, f"setuptools maps the two to one object file: {both}"


@pytest.mark.parametrize("path", sources(".h", ".cpp", ".cu", ".cuh", ".inl"), ids=relative)
def test_torch_stays_in_the_bindings(path):
    included = re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', path.read_text(), re.MULTILINE)
    torch = [name for name in included if re.match(r"(torch|ATen|c10|caffe2)/", name)]
    if not path.name.endswith(("_torch.cpp", "_binding.h")):
        assert not torch, f"{relative(path)} includes {torch}; only *_torch.cpp and the binding headers may"
        bindings = [name for name in included if name.endswith("_binding.h")]
        assert not bindings, f"{relative(path)} includes {bindings}, which include torch"
    # ATen and c10 change with every torch: one binary for all of them uses torch's stable ABI and what is header-only,
    # and of the functions that compiled models call, which keep their signatures, those that every build has
    stable = (
        "torch/csrc/stable/",
        "torch/csrc/inductor/aoti_torch/c/",
        "torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h",
    )
    unstable = [name for name in torch if not name.startswith(stable)]
    assert not unstable, f"{relative(path)} includes {unstable}, which are not of torch's stable ABI"


@pytest.mark.parametrize("path", sources(".cu", ".cuh"), ids=relative)
def test_kernels_are_started_by_launch(path):
    assert "<<<" not in path.read_text(), "start kernels with launch() of core/launch.h: the emulator cannot read <<<"


# The wings of the house, from the ground up: a file imports from its own wing and from those below. What is in none of
# them, the files beside motionops/__init__.py, is the ground.
WINGS = [
    {"codec", "contrast", "flow", "geometry", "layers", "views"},  # the operators
    {"video"},
    {"motion"},
    {"models"},
    {"training"},
    {"evaluation"},
    {"methods"},
    {"commands", "__main__"},
]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "motionops").rglob("*.py")
}


def storey(module: str) -> int:
    """0 is the ground."""
    name = module.split(".")[1]
    return next((number for number, wing in enumerate(WINGS, 1) if name in wing), 0)


def imported(path: Path) -> dict[str, int]:
    """The modules of this package that a file imports, at its top or inside a function, and the lines."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name: node.lineno for name in names if name in MODULES}
    return found


IMPORTS = {module: imported(path) for module, path in MODULES.items()}
# `from motionops import video, …` for type checkers: Python does not run it, and `motionops._PACKAGES` are loaded late.
IMPORTS["motionops"] = {
    name: line for name, line in IMPORTS["motionops"].items() if name.split(".", 1)[1] not in motionops._PACKAGES
}


def test_imports_point_down():
    upward = [
        f"{MODULES[module].relative_to(ROOT)}:{line} imports {other}"
        for module, others in IMPORTS.items()
        for other, line in others.items()
        if module != "motionops" != other and storey(other) > storey(module)
    ]
    assert not upward, upward


def test_no_file_imports_itself_by_way_of_others():
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for other in IMPORTS[module]:
                walk(other, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())


def test_the_public_operators_alone_are_loaded_with_the_package():
    """Nothing above the operators: `import motionops` needs torch and NumPy alone."""
    loaded, new = set(), {"motionops"}
    while new:
        loaded |= new
        new = {other for module in new for other in IMPORTS[module]} - loaded
    assert max(storey(module) for module in loaded - {"motionops"}) == 1


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}), ids=lambda f: f.name)
def test_a_folder_can_be_read_at_a_glance(folder):
    assert len(list(folder.glob("*.py"))) <= 16, f"{folder.relative_to(ROOT)} is becoming a drawer"


# How many others a file may import that puts a whole together.
WIDEST = 12
# What finds the videos of a run, and what reads them, are wider.
WIDER = {"training.data.loading": 15, "training.data.videos": 13}


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name != "__init__.py"])
def test_a_file_needs_few_others(module):
    """An `__init__` hands out what others hold, and is no file of its own."""
    most = WIDER.get(module.removeprefix("motionops."), WIDEST)
    assert len(IMPORTS[module]) <= most, f"{module} imports {len(IMPORTS[module])} files: {sorted(IMPORTS[module])}"


METHODS = sorted(path.name for path in (ROOT / "motionops" / "methods").iterdir() if (path / "__init__.py").exists())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_knows_no_other(method):
    own = f"motionops.methods.{method}"
    others = {
        other
        for module in MODULES
        if module.startswith(own)
        for other in IMPORTS[module]
        if other.startswith("motionops.methods.") and not other.startswith(own)
    }
    assert not others, f"{others}: what two methods share lies in a wing below"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_all_its_files(method):
    folder = ROOT / "motionops" / "methods" / method
    text = (folder / "method.py").read_text()
    assert len(text.splitlines()) <= 160, "method.py is the paper; what else there is has rooms of its own"
    for path in (ROOT / "trainers" / f"{method}.py", ROOT / "tests" / "methods" / f"test_{method}.py"):
        assert path.exists(), f"motionops/methods/{method} is there, but {path.relative_to(ROOT)} is missing"
    package = import_module(f"motionops.methods.{method}")
    assert "PRESETS" in package.__all__


def test_the_page_on_adding_a_method_shows_the_method():
    """Every block of its sections on flags and method is in the folder that it follows, line for line.

    But for the indentation: on the page a class's functions stand alone.
    """

    def lines(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n"

    page = (ROOT / "docs" / "adding_a_method.md").read_text().split("## 3.")[0]
    code = "".join(lines(path.read_text()) for path in sorted((ROOT / "motionops" / "methods" / "moco").glob("*.py")))
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        assert lines(block) in code, block
