"""The site builds without a warning: every link and anchor leads somewhere, and search knows every public name."""

import json
import os
import subprocess
import sys

import pytest

from build_support.sources import ROOT

pytest.importorskip("material")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # mkdocs.yml is strict: a warning ends it
    return folder


def test_every_page_is_there(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} == pages | {
        "index",
        "contributing",
        "security",
        "changes",
        "404",
    }


def test_search_knows_every_public_name(site):
    import motionops

    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    titles = {entry["title"] for entry in found if entry["location"].startswith("reference.html#")}
    assert {f"motionops.{name}" for name in motionops.__all__} - titles == set()


def test_nothing_is_fetched_from_elsewhere(site):
    """It opens without a network, and tells nobody that it was opened."""
    for page in site.glob("*.html"):
        text = page.read_text()
        fetched = [line for line in text.split("<") if line.startswith(("script", "link", "img")) and "//" in line]
        outside = [line for line in fetched if 'rel="canonical"' not in line and "://" in line.partition(">")[0]]
        assert outside == [], page.name
