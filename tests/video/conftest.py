"""Where the real videos are, if they are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for video_files, which the tests of this folder share

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real videos are not there: {SHARED}")
    return SHARED


@pytest.fixture
def originals(shared: Path) -> Path:
    return shared / "originals"
