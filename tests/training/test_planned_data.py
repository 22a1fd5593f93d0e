"""The batches of several processes are shares of one plan: they must have been told and have found the same."""

import time

import pytest
from torch import nn
from torch.utils.data import DataLoader, Dataset

from motionops.errors import UserError
from motionops.flags import shared_by_all
from motionops.training.config import TrainConfig
from motionops.training.data.loading import PlannedData, hanging_reads_named, require_alike
from tests.several_ranks import on_ranks


def test_what_is_alike_passes():
    require_alike([{"videos": "16 videos, ab12"}])
    require_alike([{"videos": "16 videos, ab12", "--seed": 1}] * 3)


class Module(nn.Module):
    step = 0


def ask_for_batches(rank: int, name: str) -> str:
    """What each of two processes says that differ in one thing."""
    config, module, videos = TrainConfig(), Module(), "16 videos, ab12"
    if name == "videos":
        videos = f"{16 - rank} videos, ab12"
    elif name == "steps":
        module.step = 30 * (1 - rank)
    else:
        config = TrainConfig(**{name: 1 + rank})
    with pytest.raises(UserError) as error:
        PlannedData(config, module, None, videos).train_dataloader()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("videos", "videos, and cannot train one network: process 0: 16 videos, ab12; process 1: 15 videos, ab12"),
        ("steps", "steps done, and cannot train one network: process 0: 30; process 1: 0"),
        ("learning_rate", "--learning-rate, and cannot train one network: process 0: 1; process 1: 2"),
        ("log_every", "--log-every, and cannot train one network: process 0: 1; process 1: 2"),
    ],
)
def test_processes_that_differ_end_with_one_line(tmp_path, name, said):
    assert on_ranks(ask_for_batches, tmp_path, name) == [f"the processes of this run differ in {said}"] * 2


def test_where_files_are_and_how_they_are_read_may_differ():
    told = shared_by_all(TrainConfig())
    assert not {"--data", "--list", "--output", "--workers", "--cache-gib", "--decoder"} & told.keys()
    assert {"--seed", "--learning-rate", "--batch-size", "--max-steps", "--log-every", "--precision"} <= told.keys()


class Hanging(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        time.sleep(3)
        return index


def test_a_read_that_hangs_ends_in_a_message():
    named = pytest.raises(UserError, match=r"--read-minutes: no batch was read within 0\.005 minutes")
    with named, hanging_reads_named(0.005):
        next(iter(DataLoader(Hanging(), num_workers=1, timeout=0.3)))
    with pytest.raises(RuntimeError, match="another"), hanging_reads_named(1):
        raise RuntimeError("another")


class Numbers(list):
    """As much of a data set as a loader asks for before it reads."""

    def item_bytes(self):
        return 8


def test_the_loader_of_a_run_has_the_time_that_the_flag_says():
    config = TrainConfig(read_minutes=2, batch_size=2)
    module = Module()
    module.total_steps = 1
    assert PlannedData(config, module, Numbers([0, 1]), "").train_dataloader().timeout == 120
    alone = TrainConfig(read_minutes=2, batch_size=2, workers=0)
    assert PlannedData(alone, module, Numbers([0, 1]), "").train_dataloader().timeout == 0
