"""The five trainers on a GPU: runs in both precisions, beside the CPU, compiled, and steps without a wait.

A test is one run on the GPU, of two steps, beside one step on the CPU: what fails is known within seconds.
"""

import math
from importlib.util import find_spec

import fima
import pytest
import torch

from motionops.learning.data import PlannedData, find_training_videos
from tests.conftest import hide_gpus
from tests.trainers.methods import METHODS, small_run
from tests.trainers.runs import logged
from tests.trainers.test_precision import ROUNDING

pytestmark = pytest.mark.cuda

DEVICE = torch.device("cuda")

STEPS = 2

# Float32 on both sides, with sums in another order. On the CPU, between two layouts of the weights, first losses differ
# by 3e-7 of them at most; a GPU's exponentials and roots are others too.
OTHER_ORDER = 1e-3
# Half the distance from a number near 1 to the next one that TF32 knows: to it cuDNN rounds what float32 convolutions
# multiply, unless it is told otherwise. A loss goes with its logits as in test_precision.py.
TF32_ROUNDING = 2.0**-11


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """MCL's motion is prepared once for the runs of a test: on both devices it cuts its clips at the same places."""
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))


def losses(method, shapes, output, **changes):
    """The losses of a run's steps."""
    trainer, config = small_run(method, shapes, output, **changes)
    assert trainer.main(config) == 0
    return [float(row["loss"]) for row in logged(output, ("loss",))]


def first_loss_on_the_cpu(method, shapes, output, **changes):
    with pytest.MonkeyPatch.context() as patch:
        hide_gpus(patch)
        (expected,) = losses(method, shapes, output, max_steps=1, **changes)
    return expected


@pytest.mark.parametrize(("precision", "rounding"), [("32", TF32_ROUNDING), ("bf16-mixed", ROUNDING)])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_begins_as_on_the_cpu(shapes, tmp_path, method, precision, rounding):
    """As users run it, which is with TF32 in convolutions."""
    expected = first_loss_on_the_cpu(method, shapes, tmp_path / "cpu")
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = losses(method, shapes, tmp_path / "gpu", max_steps=STEPS, precision=precision)
    assert torch.cuda.max_memory_allocated() > held
    assert len(found) == STEPS
    assert all(map(math.isfinite, found))
    _, config = small_run(method, shapes, tmp_path)
    assert found[0] == pytest.approx(expected, abs=rounding / config.temperature)


def test_without_tf32_only_the_order_of_sums_differs(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected = first_loss_on_the_cpu("fima", shapes, tmp_path / "cpu")
    found = losses("fima", shapes, tmp_path / "gpu", max_steps=1)
    assert found == [pytest.approx(expected, rel=OTHER_ORDER)]


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("mcl", {"motion_source": "on-the-fly"}),
        ("modist", {"motion": "flow-edges", "flow": "tvl1", "motion_frames": 3}),
        ("context_motion", {"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1}),
    ],
)
def test_flow_while_training(shapes, tmp_path, method, flags):
    found = losses(method, shapes, tmp_path / "run", max_steps=STEPS, **flags)
    assert len(found) == STEPS
    assert all(map(math.isfinite, found))


@pytest.mark.skipif(find_spec("triton") is None, reason="torch.compile needs Triton on a GPU")
def test_a_compiled_run_begins_as_one_that_is_not(shapes, tmp_path):
    torch._dynamo.reset()
    eager = losses("fima", shapes, tmp_path / "eager", max_steps=1)
    compiled = losses("fima", shapes, tmp_path / "compiled", max_steps=STEPS, compile=True)
    _, config = small_run("fima", shapes, tmp_path)
    assert compiled[0] == pytest.approx(eager[0], abs=TF32_ROUNDING / config.temperature)
    assert math.isfinite(compiled[1])


def test_a_step_of_fima_waits_for_nothing(shapes, tmp_path):
    """One process, after the allocations of the first steps; the log waits, once in --log-every steps."""
    _, config = small_run("fima", shapes, tmp_path, decoder_dropout=0.1)
    module = fima.FIMA(config).to(DEVICE, memory_format=torch.channels_last_3d)
    module.total_steps = 4
    dataset = fima.make_dataset(config, find_training_videos(config, progress=False))
    loader = PlannedData(config, module, dataset, "").train_dataloader()
    batches = [module.transfer_batch_to_device(batch, DEVICE, 0) for batch in loader]
    assert len(batches) == 4
    try:
        for number, batch in enumerate(batches):
            torch.cuda.set_sync_debug_mode("error" if number > 1 else "default")
            loss = module.training_step(batch, number)["loss"]
            loss.backward()
            module.finish_pending()
        with pytest.raises(RuntimeError, match="synchroniz"):  # so it would have been found
            loss.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)
