"""What the site has beside docs/: README.md and others as pages, the notebooks, and links that stay inside.

mkdocs calls the functions by their names (hooks in mkdocs.yml).
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# Pages that lie elsewhere in the tree -> where they are on the site.
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changes.md",
}
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
# Of what is in the source tree and not on the site the words stay.
_WITHOUT_LINK = re.compile(r"\[([^\]]*)\]\(\0\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that lie outside of docs/, and notebooks as pages."""
    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=as_page(notebook)))
    for source, page in MOVED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def as_page(notebook: Path) -> str:
    """A notebook as Markdown, with what its cells printed and drew."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            else:
                parts += [f'<img alt="" src="data:{kind};base64,{data}">' for kind, data in output["data"].items()]
    return "\n\n".join(parts) + f"\n\nThis page is the notebook `docs/notebooks/{notebook.name}`.\n"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links as they are in the source tree -> as they are on the site; to what the site has not: the words alone."""
    home = next((source for source, moved in MOVED.items() if moved == page.file.src_uri), f"docs/{page.file.src_uri}")

    def target(match: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(home), match[1]))
        anchor = match[2] or ""
        if path in MOVED:
            found = MOVED[path]
        elif path.startswith("docs/") and (ROOT / path).is_file():
            found = re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
        elif (ROOT / path).exists():
            return "](\0)"
        else:
            return match[0]  # mkdocs says that it leads nowhere
        return f"]({posixpath.relpath(found, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return _WITHOUT_LINK.sub(r"\1", _LINK.sub(target, markdown))
