"""The operators as the kernel hub takes them: a folder of their own, under any name, beside no motionops."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from build_support import kernel_hub
from motionops import library

ROOT = Path(__file__).resolve().parent.parent
NAME = "motionops-0.1.0+{}-py3-none-manylinux_2_27_x86_64.whl"

# As the hub's own library loads a variant: by its file, under the id of its metadata.
LOADED = """
import importlib.util, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
name = json.loads((folder / "metadata.json").read_text())["id"]
spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
module = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import torch
clip = torch.tensor([0.25, 0.5, 0.125]).view(1, 1, 3, 1, 1)
print(json.dumps({
    "files": sorted({str(getattr(m, "__file__", "")) for n, m in sys.modules.items() if n.partition(".")[0] == name}),
    "others": [n for n in sys.modules if n.partition(".")[0] == "motionops"],
    "difference": module.frame_difference(clip).flatten().tolist(),
    "functions": sorted(module.__all__),
}))
"""


@pytest.fixture
def wheel(tmp_path) -> Path:
    path = tmp_path / NAME.format("cpu")
    with zipfile.ZipFile(path, "w") as file:
        for source in [*(ROOT / "motionops").rglob("*.py"), library.OPERATORS]:
            file.write(source, source.relative_to(ROOT))
    return path


def test_a_variant_loads_under_a_name_of_its_own(wheel, tmp_path):
    import motionops

    folder = kernel_hub.write_variant(wheel, tmp_path / "hub", version=3)
    assert folder == tmp_path / "hub" / "build" / "torch-stable-abi211-cpu-x86_64-linux"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert (metadata["name"], metadata["version"], metadata["backend"]) == ("motionops", 3, {"type": "cpu"})
    run = [sys.executable, "-I", "-c", LOADED, str(folder)]
    seen = json.loads(subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)
    assert seen["others"] == []
    assert all(path.startswith(str(folder)) for path in seen["files"])
    assert {str(path) for path in folder.rglob("*.py")} == set(seen["files"])  # nothing that is never loaded
    assert seen["difference"] == [0.5625, 0.625, 0.3125]  # (x_t - x_{t-1} + 1) / 2
    assert seen["functions"] == sorted(motionops.__all__)


def test_imports_are_made_relative():
    text = "import torch\nfrom motionops.flow.checks import a, b\nif x:\n    from motionops import codec as codec\n"
    inside = "import torch\nfrom ..flow.checks import a, b\nif x:\n    from .. import codec as codec\n"
    assert kernel_hub.relative("motionops.views.host", False, text) == inside
    at_the_root = "import torch\nfrom .flow.checks import a, b\nif x:\n    from . import codec as codec\n"
    assert kernel_hub.relative("motionops", True, text) == at_the_root
    assert kernel_hub.relative("motionops.ranks", False, text) == at_the_root
    with pytest.raises(ValueError, match=r"motionops.a, line 1: expected `from motionops"):
        kernel_hub.relative("motionops.a", False, "import motionops.b\n")


@pytest.mark.parametrize(
    ("backend", "folder"),
    [("cpu", "torch-stable-abi211-cpu-x86_64-linux"), ("cu130", "torch-stable-abi211-cu130-x86_64-linux")],
)
def test_a_variant_has_the_name_of_its_backend(backend, folder):
    assert kernel_hub.variant(Path(NAME.format(backend))) == folder


def test_what_is_no_wheel_of_ours_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kernel_hub.py", str(tmp_path / "torch-2.11.0.whl"), "--output", str(tmp_path)])
    assert kernel_hub.main() == 1
    assert capsys.readouterr().err.startswith("error: torch-2.11.0.whl: expected a wheel of `make wheel`")
