"""PyAV, imported where it is used: ``import motionops`` works without it."""

from __future__ import annotations

from types import ModuleType


def require_av() -> ModuleType:
    """Return the module ``av``. Raises ImportError naming the extra to install where it is missing."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "motionops.video reads and writes videos with PyAV: pip install 'motionops[video]'"
        ) from error
    return av
