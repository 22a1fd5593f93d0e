"""Where generated videos and what is known of others are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$MOTIONOPS_CACHE``, or else ``$XDG_CACHE_HOME/motionops``, or else ``~/.cache/motionops``."""
    ours = os.environ.get("MOTIONOPS_CACHE")
    if ours:
        return Path(ours)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motionops"
