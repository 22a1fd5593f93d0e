"""Runs of Controllable Augmentations: the estimator that is not a loss's, real videos."""

import pytest
import torch

from motionops.commandline import run
from motionops.methods.controllable import PRESETS, ControllableConfig
from tests.methods.tiny import tiny, trained
from tests.runs.runs import DATA, logged
from trainers.controllable import main


def test_milestones_and_the_estimators_partition(shapes, tmp_path):
    config = tiny(
        *("controllable", shapes, tmp_path),
        **{"optimizer": "adam", "learning_rate": 2e-3, "warmup_epochs": 1.0, "epochs": 3, "milestones": (2,)},
    )
    trained("controllable", config)
    rates = [float(row["learning_rate"]) for row in logged(tmp_path, ("learning_rate",))]
    assert rates[:4] == sorted(set(rates[:4]))  # warm-up
    assert rates[4:] == pytest.approx([2e-3] * 4 + [2e-4] * 4)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.isfinite(state["information.theta.log_partition"])


@pytest.mark.parametrize("folder", [pytest.param("weizmann4", marks=pytest.mark.slow), "surv_fight"])
def test_real_videos(tmp_path, folder):
    if not (DATA / folder).is_dir():
        pytest.skip(f"the videos of {folder} are not here")
    line = ["--data", str(DATA / folder), "--output", str(tmp_path / "run"), "--preset", "demo", "--max-steps", "2"]
    line += ["--batch-size", "4", "--workers", "0"]
    assert run(main, ControllableConfig, PRESETS, line) == 0
    assert (tmp_path / "run" / "backbone.safetensors").exists()
