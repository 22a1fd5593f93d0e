"""Who started a run's processes, and how many there are, told from the environment as torchrun and SLURM set it."""

import pytest
import torch

pytest.importorskip("torchvision")
from motionops.errors import UserError
from motionops.ranks import environment_rank
from motionops.training.config import TrainConfig
from motionops.training.launch import processes

OURS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_PROCID")
OURS += ("SLURM_JOB_NAME", "SLURM_STEP_ID")

TORCHRUN = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "11", "LOCAL_RANK": "3"}
SLURM = {"SLURM_NTASKS": "64", "SLURM_NNODES": "8", "SLURM_PROCID": "42", "SLURM_LOCALID": "2", "SLURM_STEP_ID": "0"}
# An allocation of one task, as `srun --pty bash` has it, in which a run starts its own processes.
ONE_TASK = {"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}


@pytest.fixture
def start(monkeypatch):
    """Sets the environment of a process, and how many GPUs torch finds there."""

    def set_up(environment, gpus=0):
        for name in OURS:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)

    return set_up


@pytest.mark.parametrize(
    ("environment", "devices", "gpus", "expected", "rank"),
    [
        pytest.param({}, 1, 0, (1, 1), 0, id="alone"),
        pytest.param({}, 2, 0, (2, 1), 0, id="two-of-its-own"),
        pytest.param({}, 2, 2, (2, 1), 0, id="two-of-its-own-with-gpus"),
        # What Lightning starts beside the first process knows its number, and is told --devices again.
        pytest.param({"LOCAL_RANK": "1"}, 2, 0, (2, 1), 1, id="second-of-its-own"),
        pytest.param(TORCHRUN, 1, 8, (8, 2), 11, id="torchrun-2x8"),
        pytest.param({**TORCHRUN, **SLURM}, 1, 8, (8, 2), 11, id="torchrun-inside-slurm"),
        pytest.param(SLURM, 1, 8, (8, 8), 42, id="slurm-8x8"),
        pytest.param(
            {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_STEP_ID": "0"},
            1,
            0,
            (4, 1),
            3,
            id="slurm-one-machine-unnamed",
        ),
        pytest.param(ONE_TASK, 2, 0, (2, 1), 0, id="slurm-one-task"),
        pytest.param({**SLURM, "SLURM_JOB_NAME": "bash"}, 2, 0, (2, 1), 0, id="slurm-shell-of-many-tasks"),
        pytest.param({**ONE_TASK, "LOCAL_RANK": "1"}, 2, 0, (2, 1), 1, id="second-in-slurm-one-task"),
    ],
)
def test_processes_machines_and_rank(start, environment, devices, gpus, expected, rank):
    start(environment, gpus)
    assert processes(TrainConfig(devices=devices, batch_size=128)) == expected
    assert environment_rank() == rank


@pytest.mark.parametrize(
    ("environment", "flags", "gpus", "message"),
    [
        pytest.param(
            {}, {"devices": 2}, 1, "--devices: 2 processes, but torch finds 1 GPUs", id="more-processes-than-gpus"
        ),
        pytest.param(
            TORCHRUN, {"devices": 1}, 4, "--devices: 8 processes, but torch finds 4 GPUs", id="torchrun-more-than-gpus"
        ),
        pytest.param(
            {}, {"devices": 3}, 0, "--batch-size: 32 videos cannot be shared by 3 processes", id="batch-over-devices"
        ),
        pytest.param(
            TORCHRUN,
            {"batch_size": 24},
            8,
            "--batch-size: 24 videos cannot be shared by 16 processes",
            id="batch-over-two-machines",
        ),
        pytest.param(
            SLURM, {}, 8, "--batch-size: 32 videos cannot be shared by 64 processes", id="batch-below-the-processes"
        ),
        pytest.param(
            {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "0"},
            {},
            8,
            "SLURM: 8 tasks, but srun did not start this process; srun python … starts them all",
            id="a-batch-script-without-srun",
        ),
        pytest.param(
            {"SLURM_NTASKS": "8", "SLURM_NNODES": "3", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"},
            {},
            8,
            "SLURM: 8 tasks on 3 machines are not as many on each; --ntasks-per-node",
            id="tasks-over-machines",
        ),
        pytest.param(
            TORCHRUN,
            {"batch_size": 96, "accumulate": 4},
            8,
            "--accumulate: 6 videos of a process cannot be computed in 4 parts",
            id="parts-over-two-machines",
        ),
        pytest.param(
            SLURM,
            {"batch_size": 64},
            8,
            "--batch-size: 64 videos in 64 parts are one each, of which BatchNorm takes no statistics; at least 128",
            id="one-video-a-process",
        ),
        pytest.param(
            {},
            {"batch_size": 8, "devices": 2, "accumulate": 4},
            0,
            "--batch-size: 8 videos in 8 parts are one each, of which BatchNorm takes no statistics; at least 16",
            id="one-video-a-part",
        ),
    ],
)
def test_what_cannot_be_shared_is_one_line(start, environment, flags, gpus, message):
    start(environment, gpus)
    with pytest.raises(UserError) as error:
        processes(TrainConfig(**flags))
    assert str(error.value) == message
