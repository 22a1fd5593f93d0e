"""What a machine's folder of results is called."""

from __future__ import annotations

import re
from functools import cache

import torch

from motionops.info import machine_info


@cache
def machine_name() -> str:
    """A folder's name for this machine: its GPU, or its processor and the number of threads."""
    facts = machine_info()
    name = (
        facts.get("GPU 0", "").split(",")[0] or f"{facts['processor'].split(',')[0]} {torch.get_num_threads()} threads"
    )
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
