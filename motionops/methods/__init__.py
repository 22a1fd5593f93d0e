"""The published methods, a folder each: `method.py` is the paper. Each is loaded when it is first asked for."""

import importlib as _importlib
from pkgutil import iter_modules as _iter_modules
from types import ModuleType as _ModuleType

__all__ = sorted(module.name for module in _iter_modules(__path__))


def __getattr__(name: str) -> _ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'motionops.methods' has no attribute {name!r}")
    return _importlib.import_module(f"motionops.methods.{name}")
