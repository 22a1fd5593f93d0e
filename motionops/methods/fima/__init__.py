"""FIMA, fine-grained motion alignment (Zhu et al., ACM MM 2023)."""

from motionops.methods.fima.flags import PRESETS, FIMAConfig
from motionops.methods.fima.method import FIMA
from motionops.methods.fima.views import make_dataset

__all__ = ["FIMA", "PRESETS", "FIMAConfig", "make_dataset"]
