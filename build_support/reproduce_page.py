"""docs/reproduce.md from the methods' tables.yaml: python -m build_support.reproduce_page"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from motionops.commands.paper_tables import METHODS, NAME, Paper, Table, read_paper

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reproduce.md"

HEAD = """# Reproducing the papers

Written by `make reproduce` from motionops/methods/\\*/tables.yaml: change those, not this page.

Every row of every table that the papers report for their own method, with the flags that train it. `--row TABLE/ROW`
sets all of them:

    python trainers/fima.py --row 3a/1.4

and likewise `motionops train fima --row 3a/1.4`. Other flags override the row's, such as `--data` and `--list` where
the videos lie elsewhere; config.yaml notes the row. Above each table stand the flags that all its rows share, in a row
those that it adds or puts in their place, and under a method's name what goes with its presets. Flags that begin with a
word are those of a measurement by `trainers/evaluate.py`; given to `--row`, such a row is refused with its command.

The numbers are the papers', in per cent. A last column, *run here*, is what was run with this code: a number stands
there only beside the flags that gave it, a dash means that the row was not run, and where the column is missing none of
the table's rows was. What was measured on the generated MovingShapes set is in [results.md](results.md).

Commands are typed in the folder of the project. `UCF-101` is the folder of the data set's class folders and
`trainlist01.txt` its split file; `kinetics400` likewise with its `train.csv`, and `hmdb51` with the 51 files of its
`splits`. The papers' batches were spread over several GPUs, with 8 videos on each where they say so (Context-Motion
Decoupling: 16; Controllable Augmentations does not say); the presets keep those groups, for BatchNorm and for FIMA's
negatives within a batch, on any number of devices, and `--devices N` trains on N of them. Each run wants its own
`--output`. What each row composes to is compared with its paper's setting by tests/test_paper_settings.py, and
`pytest --slow tests/runs/test_paper_rows.py` tries each for two steps, on small videos in the data sets' layouts.

## Measuring

The columns *lin* and *ft* of the tables below are scores of the rows *measuring*, with the `backbone.safetensors` of
the row's run; `--protocol` is the paper's setting, and what it leaves open is in [evaluation.md](evaluation.md).

| with | goes |
|---|---|
"""


def page() -> str:
    """The page's text."""
    papers = [read_paper(file) for file in sorted(METHODS.glob(f"*/{NAME}"))]
    lists = {f"--data {folder}": flags for paper in papers for folder, flags in paper.lists.items()}
    head = HEAD + "".join(f"| `{folder}` | `{flags}` |\n" for folder, flags in lists.items())
    return "\n".join([head, *(part for paper in papers for part in sections(paper))])


def sections(paper: Paper) -> Iterator[str]:
    """A method's part of the page, by paragraphs."""
    yield f"## {paper.name}\n"
    yield paper.words
    yield "".join(f"- `--preset {preset}`: `{flags}`\n" for preset, flags in paper.videos.items())
    for key, table in paper.tables.items():
        if table.title:
            yield f"### {table.title}\n"
        if table.words:
            yield table.words
        yield f"`{table.base}`\n"
        yield markdown(key, table)
        if table.after:
            yield table.after
    if paper.choices:
        yield "### Where the paper leaves a choice\n"
        yield paper.choices


def markdown(key: str, table: Table) -> str:
    """A table as Markdown: what is typed, the row's name, its flags, the paper's numbers, and what was run here."""
    named = any(row.name != each for each, row in table.rows.items())
    run = any(row.here for row in table.rows.values())

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    head = [f"`--row {key}/`", *["row"] * named, "flags", *table.columns, *["run here"] * run]
    lines = [line(head), "|---" * len(head) + "|"]
    for each, row in table.rows.items():
        flags = row.flags and f"`{row.flags}`"
        lines.append(line([f"`{each}`", *[row.name] * named, flags, *row.paper, *[row.here or "–"] * run]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
