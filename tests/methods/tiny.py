"""A tiny run of each method, and what the contract of all methods must know of one: a line here is all that it adds.

Runs are of 8 steps, 4 an epoch. Plain descent, whose steps are as long as the gradients: what a gradient is wrong by,
the next losses are wrong by. No dropout: its draws are another on each kind of device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import motionops.methods
from motionops.commands.train import exported, found_by
from motionops.training.config import TrainConfig
from motionops.training.method import Method
from motionops.training.run import train

Flags = Mapping[str, Any]

NAMES = [module.name for module in iter_modules(motionops.methods.__path__)]

SMALL = {"batch_size": 4, "size": 16, "frames": 4, "epochs": 2, "hidden": 16, "dim": 16, "workers": 0, "log_every": 1}
SMALL |= {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "warmup_epochs": 0.0, "evaluation_clips": 1}
QUEUE = {"queue": 16}


@dataclass(frozen=True)
class Card:
    """What is known of a method.

    Attributes:
        flags: what makes it small, beside SMALL.
        pictures: that its report draws, beside training.png.
        falls: losses that fall by at least so much in a few steps on one batch.
        ablations: flags of every variant; each changes the losses of the first two steps.
        ranks: runs that two processes and one do alike, by flags; without BatchNorm.
        accumulate: flags of a run that --accumulate does not change, without BatchNorm; None where losses are made of
            the batch, which in parts is a part.
        graphs: what --compile makes one graph of: flags, and the operators in it beside those of networks.
        flow: flags with which motion is computed within a step, if there are any.
    """

    flags: Flags
    pictures: tuple[str, ...]
    falls: Mapping[str, float]
    ablations: tuple[Flags, ...]
    ranks: tuple[Flags, ...]
    accumulate: Flags | None
    graphs: tuple[tuple[Flags, set[str]], ...]
    flow: Flags = field(default_factory=dict)


CARDS = {
    "moco": Card(
        flags=QUEUE,
        pictures=(),
        falls={"nce": 0.1},
        ablations=(
            {"symmetric": False},
            {"group": 2},
            {"grayscale": 1.0},
            {"shrink": True},
            {"temperature": 0.2},
            {"precision": "bf16-mixed"},
        ),
        ranks=({},),
        accumulate={"queue": 32},
        graphs=(({}, {"queue_infonce"}),),
    ),
    "fima": Card(
        flags=QUEUE | {"frames": 8, "decoder_width": 16, "decoder_feedforward": 16, "decoder_dropout": 0.0},
        pictures=("foreground", "attention"),
        falls={"pix": 0.4, "fra": 0.1},
        ablations=(
            {"losses": ("vv",)},
            {"losses": ("vd",)},
            {"losses": ("fra",)},
            {"losses": ("pix",), "motion_decoder": "none", "mask_position": "none"},
            {"losses": ("pix",), "motion_decoder": "none", "mask_position": "target", "mask_source": "rgb"},
            {"losses": ("vv", "pix", "fra"), "motion_decoder": "different", "decoder_depth": 1, "decoder_heads": 8},
            {"losses": ("pix", "fra"), "frame_loss": "triplet", "pixel_negatives": "video"},
            {"losses": ("vv", "fra"), "frame_loss": "mse", "enqueue": "between"},
            {"losses": ("vv", "vd", "pix"), "pixel_queue": 64, "mask_source": "difference"},
            {"losses": ("pix",), "mask_source": "difference", "mask_position": "prediction"},
            {"losses": ("pix",), "radius": 1.4, "foreground_ratio": 0.3, "group": 2},
            {"decoder_dropout": 0.1},
            {"precision": "bf16-mixed"},
        ),
        ranks=({"columns": "ranks", "crop_area": (0.9, 1.0), "queue": 32},),
        accumulate={"losses": ("vv",), "queue": 32},
        graphs=(
            ({}, {"queue_infonce", "pixel_contrast"}),
            (
                {"losses": ("vv", "vd", "pix"), "enqueue": "between", "pixel_queue": 64},
                {"queue_infonce", "pixel_contrast"},
            ),
            ({"losses": ("vv",), "group": 2}, {"queue_infonce"}),
        ),
    ),
    "mcl": Card(
        flags=QUEUE | {"size": 32},
        pictures=("motion",),
        falls={"st": 0.1, "s": 0.1},
        ablations=(
            {"motion": False},
            {"spatial_crop": False, "weight_alignment": 0.0},
            {"temporal_sampling": False, "weight_alignment": 0.0},
            {"weight_alignment": 0.0},
            {"alignment": ("t",)},
            {"alignment": ("s",), "alignment_form": "released"},
            {"alignment": ("st",), "alignment_variant": "v1"},
            {"alignment_variant": "v2", "crop_form": "released", "crop_probability": 0.7, "temporal_probability": 0.7},
            {"alignment_boost": 2.0, "alignment_boost_epochs": 1, "group": 2},
            {"seco": ("intra", "order"), "queue": 32},
            {"seco": ("intra",), "queue": 32, "motion_source": "on-the-fly"},
            {"motion_source": "on-the-fly", "spatial_crop": False},
            {"motion_source": "on-the-fly", "weight_alignment": 0.0, "stride": 1},
            {"backbone": "i2d", "frames": 1, "alignment": ("s",)},
            {"backbone": "s3d", "frames": 8},
            {"precision": "bf16-mixed"},
        ),
        # v3: the loss is made of a gradient, and differentiated again.
        ranks=({"alignment_variant": "v3", "queue": 32},),
        accumulate={"alignment_variant": "v3", "motion_source": "on-the-fly", "queue": 32},
        graphs=(
            ({}, set()),  # the momentum encoder alone
            ({"weight_alignment": 0.0}, {"queue_infonce"}),
            ({"weight_alignment": 0.0, "seco": ("intra", "order"), "queue": 32}, {"queue_infonce"}),
        ),
        flow={"motion_source": "on-the-fly"},
    ),
    "modist": Card(
        flags=QUEUE | {"motion": "frame-difference", "motion_frames": 4, "gamma": 0.0},
        pictures=("motion",),
        falls={"mv": 2.0},
        ablations=(
            {"losses": ("v",)},
            {"losses": ("v", "mv")},
            {"losses": ("mv",), "mv_negatives": "query"},
            {"temporal_jitter": False, "gamma": 0.01},
            {"gamma": 0.03, "candidates": 2},
            {"motion_backbone": "r2d_50_eighth", "group": 2, "size": 32},
            {"motion": "flow", "flow": "tvl1", "grey_motion": True, "motion_frames": 2},
            {"precision": "bf16-mixed"},
        ),
        ranks=({"gamma": 0.03},),
        accumulate={"queue": 32},
        graphs=(({}, {"queue_infonce"}),),
        flow={"motion": "flow-edges", "flow": "tvl1", "motion_frames": 3},
    ),
    "controllable": Card(
        flags={"stride": 1, "clips": 2, "global_cells": 4, "drawn_levels": 2},
        pictures=("regions",),
        falls={"rc": 0.3, "td": 0.5},
        ablations=(
            {"losses": ("nce",)},
            {"losses": ("nce", "mi", "td"), "nce_pairs": "global"},
            {"losses": ("rc", "mi"), "estimator": "nwj"},
            {"losses": ("rc", "mi"), "estimator": "infonce", "marginals": 1},
            {"losses": ("rc",), "clips": 1, "global_cells": 1, "head": "none"},
            {"losses": ("rc", "td"), "order_head": "mlp", "order_estimator": "infonce", "shuffles": 2},
            {"losses": ("rc", "td"), "order_input": "map", "mirror": 0.0},
            {"losses": ("nce", "td"), "order_head": "vcop", "clips": 3},
            {"order_head": "gru-mlp", "order_estimator": "nwj", "global_cells": 2},
            {"colour_levels": 2, "hue_levels": 2, "blur_levels": 2, "drawn_levels": 32},
            {"clips": 4, "frames": 16, "stride": 1, "backbone": "r3d_18_pool", "size": 32, "global_cells": 8},
            {"precision": "bf16-mixed"},
        ),
        ranks=({}, {"losses": ("nce", "td")}),
        accumulate=None,
        graphs=(({"losses": ("rc", "mi", "td", "nce")}, {"region_contrast", "pairwise_infonce"}),),
    ),
    "context_motion": Card(
        flags={
            "motion_frames": 4,
            "width": 16,
            "feedforward": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "dropout": 0.0,
            "alpha": 0.5,
        },
        pictures=("motion",),
        falls={"context": 0.3, "motion": 0.4},
        ablations=(
            {"alpha": 0.0},
            {"alpha": 1.0},
            {"period": "current", "hard_negatives": 0},
            {"predictor": "convgru"},
            {"motion_loss": "mse"},
            {"motion_loss": "cross-entropy", "levels": 4},
            {"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1},
            {"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1, "alpha": 1.0, "period": "current"},
            {"cell": 4, "fill_key_frames": False, "negatives": "local"},
            {"image_backbone": "r2d_10", "motion_backbone": "r3d_10", "size": 32},
            {"dropout": 0.1},
            {"motion_steps": 8},
            {"negatives": "group", "group": 2},
            {"precision": "bf16-mixed"},
        ),
        ranks=({},),
        accumulate=None,
        graphs=(({}, {"pairwise_infonce"}),),
        flow={"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1},
    ),
}


def package_of(name: str) -> ModuleType:
    return import_module(f"motionops.methods.{name}")


def tiny(name: str, shapes: Path, output: Path, **changes: Any) -> TrainConfig:
    """The configuration of a method's tiny run on the videos of MovingShapes."""
    given = {
        "data": shapes,
        "list": shapes and shapes / "train.txt",
        "output": output,
        **SMALL,
        **CARDS[name].flags,
        **changes,
    }
    return replace(exported(package_of(name), TrainConfig)(), **given)


def method_of(name: str) -> type[Method]:
    return exported(package_of(name), Method)


def parts_of(name: str) -> tuple:
    """What `motionops.training.run.train` is given of a method: (build, make_dataset, find)."""
    package = package_of(name)
    find, make_dataset = found_by(package)
    return method_of(name).for_videos, make_dataset, find


def trained(name: str, config: TrainConfig) -> Path:
    """The folder of a run that ends with its last step: nothing is measured and drawn of what was learnt."""
    build, make_dataset, find = parts_of(name)
    config.check_backbone()
    assert train(config, build, make_dataset, lambda *given: None, find) == 0
    return config.output
