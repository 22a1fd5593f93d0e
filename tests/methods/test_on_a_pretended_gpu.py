"""A step of each trainer on a GPU that is played on the CPU: nothing is left behind, and nothing is drawn there."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from motionops.video import collate_videos
from tests.methods.steps import ready
from tests.methods.tiny import CARDS, NAMES
from tests.pretended_gpu import GPU, Placed, PretendedGPU

RUNS = [(name, flags) for name in NAMES for flags in ([{}, CARDS[name].flow] if CARDS[name].flow else [{}])]


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
def test_a_step_begins_as_on_the_cpu(shapes, tmp_path, method, flags):
    module, dataset, (batch, *_) = ready(method, shapes, tmp_path, **flags)

    def first_loss(module, device):
        module.to(device)
        loss = module.training_step(module.transfer_batch_to_device(batch, device, 0), 0)["loss"]
        loss.backward()
        module.fill_queues()
        return loss.item()

    expected = first_loss(copy.deepcopy(module), torch.device("cpu"))
    shown = collate_videos([dataset[0, video] for video in range(4)])
    with PretendedGPU(all_values=True), DrawnThere() as drawn:
        assert first_loss(module, GPU) == pytest.approx(expected, rel=1e-5)
        with torch.no_grad():
            (tmp_path / "report").mkdir()
            module.eval().report(tmp_path / "report", module.transfer_batch_to_device(shown, GPU, 0))
    assert not drawn.operators
