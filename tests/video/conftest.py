"""Where the real videos are, if they are."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real videos are not there: {SHARED}")
    return SHARED


@pytest.fixture
def originals(shared: Path) -> Path:
    return shared / "originals"
