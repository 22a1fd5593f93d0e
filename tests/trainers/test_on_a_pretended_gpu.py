"""A step of each trainer on a GPU that is played on the CPU: nothing is left behind, and nothing is drawn there."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from motionops.learning.data import PlannedData, find_training_videos
from motionops.video import collate_videos
from tests.pretended_gpu import GPU, Placed, PretendedGPU
from tests.trainers.methods import METHODS, small_run

RUNS = [
    *((method, {}) for method in METHODS),
    ("mcl", {"motion_source": "on-the-fly"}),
    ("modist", {"motion": "flow-edges", "flow": "tvl1", "motion_frames": 3}),
    ("context_motion", {"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1}),
]


class DrawnThere(TorchDispatchMode):
    """Operators that draw numbers for the GPU: a GPU's are others than a CPU's, and losses could not be compared."""

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in function.tags and isinstance(result, Placed) and result.place == GPU:
            self.operators.append(str(function))
        return result


@pytest.mark.parametrize(
    ("method", "flags"), RUNS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_a_step_begins_as_on_the_cpu(shapes, tmp_path, monkeypatch, method, flags):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    trainer, config = small_run(method, shapes, tmp_path / "run", **flags)
    asked = {}

    def note(config, build, make_dataset, find=find_training_videos, conclude=None):
        asked.update(config=config, build=build, make_dataset=make_dataset, find=find)
        return 0

    monkeypatch.setattr(trainer, "train", note)
    assert trainer.main(config) == 0
    config = asked["config"]
    torch.manual_seed(0)
    module = asked["build"](config)
    module.steps_per_epoch, module.total_steps = 4, 8
    dataset = asked["make_dataset"](config, asked["find"](config, False))
    batch = next(iter(PlannedData(config, module, dataset, "").train_dataloader()))

    def first_loss(module, device):
        module.to(device)
        loss = module.training_step(module.transfer_batch_to_device(batch, device, 0), 0)["loss"]
        loss.backward()
        module.finish_pending()
        return loss.item()

    expected = first_loss(copy.deepcopy(module), torch.device("cpu"))
    shown = collate_videos([dataset[0, video] for video in range(4)])
    with PretendedGPU(all_values=True), DrawnThere() as drawn:
        assert first_loss(module, GPU) == pytest.approx(expected, rel=1e-5)
        with torch.no_grad():
            (tmp_path / "report").mkdir()
            module.eval().report(tmp_path / "report", module.transfer_batch_to_device(shown, GPU, 0))
    assert not drawn.operators
