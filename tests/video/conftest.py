"""Videos of tars and stores as a process meets them that knows none yet."""

import pytest

from motionops.video.sources import faults, tars


@pytest.fixture
def nothing_known(tmp_path, monkeypatch):
    """A cache folder of the test's own, no tar read before, and no wait between two tries."""
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tars, "_known", {})
    monkeypatch.setattr(faults, "WAITS", (0, 0, 0))
