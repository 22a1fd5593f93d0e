"""A report as one HTML file that opens anywhere: no server, no script, every picture within it."""

from __future__ import annotations

import base64
import html
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from motionops.files import replace_text

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; background: #fff; color: #1c1c1c;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.25rem; padding-top: 0.75rem; border-top: 1px solid #d5d5d5; }
p { margin: 0.25rem 0 0.75rem; max-width: 46rem; }
nav a { display: inline-block; margin: 0 0.9rem 0.25rem 0; color: #1f4e79; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-size: 0.93rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #e2e2e2; text-align: left; vertical-align: top;
  overflow-wrap: normal; }
figure { margin: 0.5rem 0 1.25rem; }
img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: 0.87rem; color: #4a4a4a; max-width: 46rem; }
"""

CHART, STRIPS = 900, 640  # pixels: the least widths at which the text of such pictures can be read


class Picture(NamedTuple):
    """A PNG or GIF and what it shows; the caption is its text for those who do not see it, too.

    On a screen narrower than ``least`` pixels it is scrolled and not shrunk further, so that its text can be read.
    """

    file: Path
    caption: str
    least: int = 0


class Section(NamedTuple):
    """A part of a report: a heading, a sentence or two, a table (the first row its header), pictures."""

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()


def write_page(title: str, sections: Sequence[Section], file: str | os.PathLike) -> Path:
    """Write a report.

    Args:
        title: of the page.
        sections: in order; all their text is taken as text, not as HTML.
        file: the HTML to write, whole or not at all.

    Raises:
        OSError: a picture that cannot be read.
        ValueError: one that is neither PNG nor GIF.
    """
    links = "".join(f'<a href="#s{n}">{_text(section.title)}</a>' for n, section in enumerate(sections))
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1><nav>{links}</nav>",
    ]
    for number, section in enumerate(sections):
        parts.append(f'<section id="s{number}"><h2>{_text(section.title)}</h2>')
        if section.text:
            parts.append(f"<p>{_text(section.text)}</p>")
        if section.table:
            parts.append(_table(section.table))
        parts += [_figure(picture) for picture in section.pictures]
        parts.append("</section>")
    parts.append("</body></html>\n")
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, "\n".join(parts))
    return file


def _text(value: str) -> str:
    # A path may hold bytes that are no text; a page is UTF-8.
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(picture: Picture) -> str:
    content = Path(picture.file).read_bytes()
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        kind, (width, height) = "png", struct.unpack(">II", content[16:24])
    elif content[:6] == b"GIF89a":
        kind, (width, height) = "gif", struct.unpack("<HH", content[6:10])
    else:
        raise ValueError(f"write_page: {picture.file} is neither PNG nor GIF")
    data = base64.b64encode(content).decode()
    return (
        f'<figure><div class="wide" tabindex="0"><img alt="{_text(picture.caption)}" width="{width}" height="{height}" '
        f'style="min-width:{min(width, picture.least)}px" src="data:image/{kind};base64,{data}"></div>'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    )
