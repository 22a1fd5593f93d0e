"""Optional parts: what is used only where it is needed, and what to type where it is missing."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType


def require(purpose: str, *modules: str, extra: str = "train") -> None:
    """Raise an ImportError that names the extra to install, where a module that ``purpose`` needs is missing.

    Args:
        purpose: who needs them, for the message.
        modules: top-level modules; they are looked for, not imported.
        extra: the extra of this package that installs all of them.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ImportError(f"{purpose} needs {', '.join(missing)}: pip install 'motionops[{extra}]'")


def require_av() -> ModuleType:
    """Return the module ``av``. Raises ImportError naming the extra to install where it is missing."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "motionops.video reads and writes videos with PyAV: pip install 'motionops[video]'"
        ) from error
    return av
