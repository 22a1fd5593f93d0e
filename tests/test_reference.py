"""The public surface: what each package hands out, that it is on the page, and that nothing else is handed out."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import pytest

pytest.importorskip("torchvision")
pytest.importorskip("lightning")
import motionops
from build_support.reference_page import DATA, MARK, PACKAGES, PAGE, homes, page, public_names


def test_the_page_is_that_of_the_docstrings():
    assert page() == PAGE.read_text(encoding="utf-8"), "run `make reference`"


def test_every_public_name_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    missing = [whole for whole in homes().values() if f"\n### {whole}\n" not in text and f"\n## {whole}\n" not in text]
    assert not missing


def test_every_operator_stands_in_the_table_of_layouts():
    by_hand = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    operators = json.loads((PAGE.parent.parent / "csrc" / "sources.json").read_text())["ops"]
    assert [stem for stem in operators if f"`{stem.rpartition('/')[2]}`" not in by_hand] == []


def test_all_packages_are_there():
    """Those that hand out names: a new one, or a new method, is not forgotten."""
    expected = {"motionops", *(f"motionops.{name}" for name in motionops._PACKAGES)}
    expected |= {f"motionops.methods.{part.name}" for part in pkgutil.iter_modules(motionops.methods.__path__)}
    assert expected <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented_and_nothing_else_is_public(package):
    module = importlib.import_module(package)
    assert inspect.getdoc(module)
    names = public_names(package)
    assert len(set(names)) == len(names)
    for name in names:
        value = getattr(module, name)
        assert name in DATA or (value.__doc__ or "").strip(), f"{package}.{name} has no docstring"
        assert not (value.__doc__ or "").startswith(f"{name}("), (
            f"{package}.{name} has no docstring but a generated one"
        )
    if hasattr(module, "__path__"):  # a file has helpers beside what it hands out
        others = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and name not in names and not inspect.ismodule(value)
        }
        assert not others


def test_packages_are_there_when_they_are_asked_for():
    """And functions that have the name of their file are functions."""
    program = (
        "import sys, motionops\n"
        "assert not {'motionops.video', 'motionops.models', 'torchvision', 'av', 'torch._dynamo'} & set(sys.modules)\n"
        "assert set(motionops._PACKAGES) < set(dir(motionops))\n"
        "motionops.video.VideoDataset, motionops.models.R3D18, motionops.evaluation.pictures.tsne\n"
        "motionops.methods.moco.MoCo, motionops.ranks.gather, motionops.flow.tvl1_flow.__call__\n"
        "from motionops.flow import tvl1_flow\n"
        "from motionops.views import crop_map, random_windows\n"
        "assert all(map(callable, (tvl1_flow, crop_map, random_windows)))\n"
        "try:\n"
        "    motionops.vidoe\n"
        "except AttributeError as error:\n"
        "    assert 'vidoe' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
