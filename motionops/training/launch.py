"""How a run's processes were started: by torchrun, by SLURM, or by the run itself; told from the environment."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from motionops.errors import UserError
from motionops.ranks import is_first, slurm_tasks
from motionops.training.config import TrainConfig


class Processes(NamedTuple):
    """Of a run: how many on this machine, and on how many machines."""

    devices: int
    nodes: int

    @property
    def first(self) -> bool:
        """Whether this process is the first of them all, which alone writes and speaks."""
        return is_first()


def processes(config: TrainConfig) -> Processes:
    """torchrun's or SLURM's where they started this process, else those of --devices."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment and "WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        devices, nodes = local, int(environment["WORLD_SIZE"]) // local
    elif (tasks := slurm_tasks()) > 1:
        nodes = int(environment.get("SLURM_NNODES", 1))
        if "SLURM_STEP_ID" not in environment:
            raise UserError(f"SLURM: {tasks} tasks, but srun did not start this process; srun python … starts them all")
        if tasks % nodes:
            raise UserError(f"SLURM: {tasks} tasks on {nodes} machines are not as many on each; --ntasks-per-node")
        devices = tasks // nodes
    else:
        devices, nodes = config.devices, 1
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise UserError(f"--devices: {devices} processes, but torch finds {torch.cuda.device_count()} GPUs")
    if config.batch_size % (devices * nodes):
        raise UserError(f"--batch-size: {config.batch_size} videos cannot be shared by {devices * nodes} processes")
    if config.batch_size // (devices * nodes) % config.accumulate:
        share = config.batch_size // (devices * nodes)
        raise UserError(f"--accumulate: {share} videos of a process cannot be computed in {config.accumulate} parts")
    parts = devices * nodes * config.accumulate
    if config.batch_size == parts > 1:
        raise UserError(
            f"--batch-size: {config.batch_size} videos in {parts} parts are one each, of which BatchNorm takes no "
            f"statistics; at least {2 * parts}"
        )
    return Processes(devices, nodes)


def restarts_hang() -> bool:
    """Whether torchrun may restart the processes and would give them, in one store for all attempts, dead addresses.

    Since torch 2.5 the processes share torchrun's store, and keys of a failed attempt are still in it at the next
    (pytorch/pytorch issue 135712): the processes then wait for those that died.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    return shared and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0
