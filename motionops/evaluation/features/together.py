"""The processes that torchrun or SLURM started, measuring together: each reads its part, the first has the whole."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import Tensor, distributed

from motionops.errors import UserError
from motionops.ranks import environment_rank, from_first, gather_to_first, slurm_tasks, world

WAITING = timedelta(days=2)  # one process may be that much behind another: it reads other videos


def started_together() -> int:
    """How many processes torchrun or SLURM started; 1 where none did."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ.get("WORLD_SIZE", 1))
    return slurm_tasks() if "SLURM_STEP_ID" in os.environ else 1


def join_processes() -> int:
    """Make the process group of those that were started together, where there is none yet; how many they are."""
    size = started_together()
    if size > 1 and not distributed.is_initialized():
        where = {"init_method": "env://"}
        if "LOCAL_WORLD_SIZE" not in os.environ:
            from motionops.training.lightning import SLURMEnvironment

            tasks = SLURMEnvironment()
            address = f"tcp://{tasks.main_address}:{tasks.main_port}"
            where = {"init_method": address, "rank": environment_rank(), "world_size": size}
        distributed.init_process_group("gloo", timeout=WAITING, **where)
    return world()[1]


def own_device() -> torch.device:
    """The GPU of this process, of those that were started together on its machine; without one, the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) if started_together() > 1 else 0
    return torch.device("cuda", place % torch.cuda.device_count()) if place else torch.device("cuda")


def machine() -> int:
    """Which machine this is of those of the run, 0 for the first."""
    return int(os.environ.get("GROUP_RANK", os.environ.get("SLURM_NODEID", 0))) if started_together() > 1 else 0


def raise_in_all(error: UserError | None) -> None:
    """Raise the first rank's error in all of them: the others would wait for it. All must call."""
    text = from_first(None if error is None else str(error))
    if error is not None:
        raise error
    if text is not None:
        raise UserError(text)


def of_all_ranks(rows: dict[int, Tensor | str | None], ranks: int) -> dict[int, Tensor | str | None]:
    """In the first rank the features, or the reasons why there are none, of all, by place; in the others nothing."""
    if ranks == 1:
        return rows
    features = {place: row for place, row in rows.items() if isinstance(row, Tensor)}
    together = torch.stack(list(features.values())) if features else torch.empty(0)
    reasons = {place: row for place, row in rows.items() if isinstance(row, str)}
    all_rows: dict[int, Tensor | str | None] = {}
    for places, features_of_rank, reasons_of_rank in gather_to_first([(list(features), together, reasons)]):
        all_rows |= zip(places, features_of_rank.unbind(), strict=True)
        all_rows |= reasons_of_rank
    return dict(sorted(all_rows.items()))
