"""The blocks of pages are programs that run, each page in a folder of its own; so is the script of a user."""

import re
import shutil

import pytest
import torch

from build_support.sources import ROOT

pytest.importorskip("torchvision")
PAGES = {"elsewhere.md": ["onnxscript", "onnxruntime", "safetensors"], "porting.md": []}


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    for module in PAGES[page]:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    with torch.random.fork_rng(devices=[]):
        names: dict = {"__name__": "page"}
        for number, block in enumerate(blocks):
            exec(compile(block, f"docs/{page}, block {number + 1}", "exec"), names)
    if page == "elsewhere.md":
        left = names["left"]
        assert (left.missing_keys, left.unexpected_keys) == (["fc.weight", "fc.bias"], [])


def test_the_script_that_checkers_read_runs(shapes, tmp_path, one_thread):
    """Its hints are checked by `make types`; that its calls are still the library's, here."""
    pytest.importorskip("av")
    from tests import user_script

    copy = tmp_path / "shapes"
    shutil.copytree(shapes, copy)
    with torch.random.fork_rng(devices=[]):
        frames = torch.zeros(2, 16, 8, 10, 3, dtype=torch.uint8)
        clips, *_, cells = user_script.views(frames, torch.rand(2, 4, 4))
        assert (clips.shape, cells.shape) == ((2, 3, 16, 112, 96), (2, 1, 2, 2))
        user_script.train(copy)
    assert (copy / "backbone.safetensors").is_file()
