"""The notebooks are those of the cells beside them. `make notebooks` runs them; here nothing is run."""

import json

import pytest

from build_support import notebooks

FILES = sorted(notebooks.FOLDER.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_is_that_of_its_cells(file):
    made = json.loads(file.with_suffix(".ipynb").read_text())["cells"]
    expected = notebooks.cells(file.read_text())
    expected.insert(1, ("code", notebooks.SHOW))
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in made] == expected, "run `make notebooks`"
    drawn = [output for cell in made for output in cell.get("outputs", []) if output["output_type"] == "display_data"]
    assert drawn, "what it draws is in it"


def test_what_a_cell_prints_and_draws_is_kept(tmp_path):
    (tmp_path / "dot.gif").write_bytes(b"GIF89a")
    text = f"# %% [markdown]\n# Words\n#\n# more\n\n# %%\nprint(6 * 7)\nshow({str(tmp_path / 'dot.gif')!r})\n"
    (tmp_path / "short.py").write_text(text)
    first, second = notebooks.run(tmp_path / "short.py")
    assert first == ("markdown", "Words\n\nmore", [])
    assert second[2][0]["text"] == ["42\n"]
    assert second[2][1]["data"] == {"image/gif": "R0lGODlh"}
    (tmp_path / "wrong.py").write_text("# %%\n1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        notebooks.run(tmp_path / "wrong.py")
