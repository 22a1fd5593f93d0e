"""What the papers say of each row of their tables, as data: frames, stride, size, crops, clips, normalisation,
schedule, negatives. The numbers are copied from the papers (and, where they are silent, from their released code:
FIMA's groups, MCL's fine-tuning), not from the presets."""

from motionops.commands.paper_tables import METHODS, NAME, read_paper
from motionops.evaluation.features.backbones import CLIPS, OTHER_CLIP
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.views.clip_settings import read_header

PAPERS = {file.parent.name: read_paper(file) for file in sorted(METHODS.glob(f"*/{NAME}"))}
ROWS = [
    (method, key, row) for method, paper in PAPERS.items() for key, table in paper.tables.items() for row in table.rows
]

KINETICS = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

# Of a preset: what its paper says of the training.
FIMA = {
    **KINETICS, "frames": 16, "stride": 2, "size": 224, "epochs": 200, "batch_size": 24, "optimizer": "sgd",
    "learning_rate": 0.00375, "weight_decay": 1e-4, "milestones": (), "schedule": "epoch", "warmup_epochs": 0.0,
    "temperature": 0.1, "momentum": 0.999, "queue": 2048, "dim": 128, "group": 8, "columns": "group",
    "pixel_negatives": "batch", "pixel_queue": 0, "crop_area": (0.2, 1.0), "jitter": 0.2, "blur": 0.2, "grayscale": 0.2,
}  # fmt: skip
MCL = {
    **IMAGENET, "frames": 16, "stride": 2, "size": 224, "epochs": 200, "batch_size": 64, "optimizer": "sgd",
    "learning_rate": 0.01, "weight_decay": 1e-4, "milestones": (), "temperature": 0.1, "momentum": 0.999,
    "queue": 131072, "dim": 128, "hidden": 2048, "group": 8, "crop_quantile": 0.9, "crop_coverage": 0.8,
    "seco": ("intra", "order"), "own_negatives": True, "motion_side": 0,
}  # fmt: skip
MODIST = {
    **KINETICS, "frames": 8, "stride": 8, "size": 224, "motion_frames": 16, "motion_stride": 4, "flow_interval": 5,
    "epochs": 600, "momentum": 0.999, "queue": 65536, "temperature": 0.1, "dim": 128, "gamma": 0.02,
    "mv_negatives": "query",
}  # fmt: skip
CONTROLLABLE = {
    **KINETICS, "frames": 16, "stride": 2, "size": 112, "epochs": 200, "batch_size": 128, "optimizer": "adam",
    "learning_rate": 1e-3, "weight_decay": 1e-5, "milestones": (150,), "clips": 4, "global_cells": 8,
    "drawn_levels": 32, "weight_rc": 1.0, "weight_mi": 1.0, "weight_td": 1.0,
}  # fmt: skip
CONTEXT_MOTION = {
    **KINETICS, "frames": 16, "stride": 4, "size": 112, "motion_frames": 8, "motion_steps": 16, "epochs": 120,
    "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.0005 * 64, "weight_decay": 0.005, "milestones": (),
    "alpha": 0.5, "hard_negatives": 3, "hidden": 2048, "dim": 512, "group": 16, "negatives": "ranks",
}  # fmt: skip
PRESETS = {
    ("fima", "ucf101"): FIMA,
    ("fima", "ucf101-released"): FIMA | {"jitter": 0.8, "blur": 0.5, "queue": 2240},
    ("fima", "kinetics400"): FIMA | {
        "epochs": 100, "batch_size": 64, "learning_rate": 0.01, "queue": 65536, "pixel_queue": 31360,
    },
    ("mcl", "ucf101"): MCL,
    ("mcl", "ucf101-released"): MCL | {"batch_size": 32, "warmup_epochs": 5.0},
    ("mcl", "kinetics400"): MCL | {"epochs": 400, "seco": ("intra",)},
    ("modist", "kinetics400"): MODIST,
    ("modist", "kinetics400-mini"): MODIST | {"epochs": 100},
    ("controllable", "ucf101"): CONTROLLABLE,
    ("controllable", "kinetics400"): CONTROLLABLE | {"epochs": 100, "milestones": (70,)},
    ("context_motion", "ucf101"): CONTEXT_MOTION,
    ("context_motion", "kinetics400"): CONTEXT_MOTION | {"batch_size": 512, "learning_rate": 0.0005 * 512},
}  # fmt: skip
SINGLE = {"frames": 1}
# Of a row (or a table): what it changes.
CHANGES = {
    "fima 4/r2plus1d": {"size": 112},
    "fima 4/r2plus1d-k400": {"size": 112},
    "fima 5/r2plus1d-k400": {"size": 112},
    **{f"fima 1/{row}": {"losses": tuple(row.split("-"))} for row in ("vv", "vv-vd", "vv-pix", "vv-fra")},
    **{f"fima 3a/{radius}": {"radius": radius} for radius in (0.35, 0.7, 1.4, 2.8)},
    **{f"fima 3b/{depth}": {"decoder_depth": depth} for depth in (1, 2, 3)},
    **{
        f"fima 3c/{width}-{heads}": {"decoder_width": width, "decoder_heads": heads}
        for width in (256, 512)
        for heads in (4, 8)
    },
    **{f"fima 3d/{ratio}": {"foreground_ratio": ratio} for ratio in (0.3, 0.5, 0.7)},
    **{f"fima 7/{width}": {"decoder_width": width} for width in (256, 512)},
    "fima 10/98": {"pixel_negatives": "video"},
    "fima 10/1568": {"pixel_queue": 784},
    **{f"mcl 1/{net}-{part}": SINGLE for net in ("r2d", "i2d") for part in ("none", "ta", "sa", "ta-sa", "s")},
    **{f"mcl {row}": SINGLE for row in ("3/seco-r2d", "3/seco-r2d-k400", "4/seco-r2d", "4/seco-r2d-k400")},
    "modist 2/r3d-18": {"size": 128},
    "modist 3a/rgb": {"epochs": 100},
    "modist 3a/modist": {"epochs": 100},
    "modist 3b/difference": {"gamma": 0.005},  # the paper gives none for this input
    "modist 3c/no-threshold": {"gamma": 0.0},
    **{f"modist 3d/{epochs}": {"epochs": epochs} for epochs in (100, 200, 400, 600)},
    "controllable 1/k400-200": {"epochs": 200, "milestones": (140,)},
    "controllable 1/k400-224": {"size": 224},
    **{
        f"controllable 4/k{k}-t{t}": {"clips": k, "global_cells": t}
        for k, t in ((1, 2), (2, 2), (2, 4), (3, 2), (3, 4), (3, 8), (4, 4), (4, 8))
    },
    **{f"controllable {table}": {"epochs": 150} for table in ("4", "5", "6", "estimators")},
    **{
        f"controllable 5/{c}-{h}-{b}": {"colour_levels": c, "hue_levels": h, "blur_levels": b}
        for c, h, b in ((2, 2, 2), (4, 2, 4), (4, 4, 4), (5, 2, 5))
    },
    **{
        f"controllable 7/{row}": {"losses": tuple(row.split("-"))}
        for row in ("nce", "rc", "rc-mi", "rc-td", "nce-mi-td", "rc-mi-td")
    },
    **{f"mcl 2/{variant}": {"alignment_variant": variant} for variant in ("v1", "v2", "v3")},
    "context_motion 4/i-frames": {"alpha": 0.0},
    "context_motion 4/vectors": {"alpha": 1.0},
}

# Of a command and a protocol: what the paper says of the measurement.
TEN = {"clips": 10, "crops": 1, "short": "hold"}
FIMA_TUNED = {
    "batch_size": 16, "optimizer": "sgd", "crop_area": (0.2, 1.0), "grayscale": 0.2, "jitter": 0.2, "blur": 0.0,
}  # fmt: skip
TUNED = {
    "optimizer": "sgd", "epochs": 22, "batch_size": 16, "learning_rate": 0.03, "milestones": (14, 18),
    "warmup_epochs": 0.19, "warmup_start": 1e-4,
}  # fmt: skip
MCL_CLIPS = {"clips": 20, "crops": 1, "crop": 224 / 256, "frames": 16, "stride": 2, "size": 224, "short": "hold"}
MODIST_CLIPS = {"clips": 10, "crops": 3, "crop": 1.0, "frames": 32, "stride": 8, "short": "hold"}
SSV2_CLIPS = {"clips": 1, "crops": 1, "crop": 1.0, "frames": 16, "sampling": "segments", "size": 224}
CONTEXT_CLIPS = TEN | {"frames": 16, "stride": 4, "size": 112}
MEASURED = {
    ("linear", "fima"): TEN | FIMA_TUNED | {
        "fit": "sgd", "epochs": 100, "learning_rate": 1.5, "milestones": (60, 80), "weight_decay": 0.0, "dropout": 0.0,
        "normalise": True,
    },
    ("finetune", "fima"): TEN | FIMA_TUNED | {
        "epochs": 150, "learning_rate": 0.0033, "milestones": (60, 120), "weight_decay": 1e-4, "dropout": 0.7,
    },
    ("retrieval", "fima"): TEN,
    ("pictures", "fima"): TEN,
    ("svm", "mcl"): MCL_CLIPS,
    ("linear", "mcl"): MCL_CLIPS,
    ("retrieval", "mcl"): MCL_CLIPS,
    ("pictures", "mcl"): MCL_CLIPS,
    ("finetune", "mcl"): {
        "clips": 20, "crops": 3, "crop": 1.0, "test_size": 256, "frames": 32, "stride": 2, "size": 224, "epochs": 150,
        "optimizer": "sgd", "nesterov": True, "learning_rate": 0.01, "batch_size": 256, "accumulate": 16,
        "weight_decay": 1e-4, "clip_gradient": 40.0, "dropout": 0.9, "rand_augment": (1, 23), "crop_area": (0.2, 1.0),
        "jitter": 0.0, "grayscale": 0.0, "blur": 0.0,
    },
    ("linear", "modist"): MODIST_CLIPS,
    ("pictures", "modist"): MODIST_CLIPS,
    ("finetune", "modist"): MODIST_CLIPS | TUNED,
    ("lowshot", "modist"): MODIST_CLIPS | TUNED | {"shares": (1.0, 5.0, 20.0, 40.0, 60.0, 80.0, 100.0)},
    ("linear", "modist-ssv2"): SSV2_CLIPS,
    ("finetune", "modist-ssv2"): SSV2_CLIPS | TUNED | {
        "weight_decay": 1e-6, "mirror": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "test_size": 256,
    },
    ("linear", "controllable"): TEN | {"crop": 1.0, "size": 112},
    ("finetune", "controllable"): TEN | {"crop": 1.0, "size": 112},
    ("retrieval", "controllable"): TEN | {"crop": 1.0, "size": 112},
    ("pictures", "controllable"): TEN | {"crop": 1.0, "size": 112},
    ("retrieval", "context-motion"): CONTEXT_CLIPS,
    ("pictures", "context-motion"): CONTEXT_CLIPS,
    ("finetune", "context-motion"): CONTEXT_CLIPS | {
        "epochs": 120, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.0008, "weight_decay": 0.003,
        "dropout": 0.3,
    },
}  # fmt: skip
MEASURED_CHANGES = {
    "fima measuring/ft-hmdb51": {"dropout": 0.5},
    "mcl measuring/ft-hmdb51": {"rand_augment": (3, 17)},
    "mcl 3/imagenet-r2d": SINGLE | {"stride": 1},
    "modist measuring/lin-3": {"frames": 8},
    "modist measuring/lin-3-hmdb51": {"frames": 8},
    "modist 4/supervised": {"frames": 8},
    "context_motion measuring/ft-hmdb51": {"learning_rate": 0.0016, "weight_decay": 0.002},
    "context_motion 5/i": SINGLE | {"stride": 1},
    "context_motion 5/m": {"frames": 8},
    **{f"context_motion 6/{net}-motion": {"regularise_motion": 0.2} for net in ("c3d", "r2plus1d", "r3d")},
}
# The clips that the files say which the rows measure: those of their trainings.
FILES = {"fima": FIMA, "mcl": MCL, "modist": MODIST, "controllable": CONTROLLABLE | {"stride": 2}}
FILES |= {"context_motion": CONTEXT_MOTION}


def of_file(method, backbone):
    """What the file of a row's backbone says of its clips."""
    kind, _, rest = backbone.partition(":")
    if rest:
        name = rest if kind == "random" else kind
        return {**CLIPS.get(name, OTHER_CLIP), **(IMAGENET if kind != "random" else {})}
    run = FILES[method] | (SINGLE | {"stride": 1} if "image_backbone" in backbone else {})
    named = {name: run[name] for name in ("frames", "stride", "size", "mean", "std")}
    return read_header(ClipRecipe(**named).header(), "a file")


def of_training(method, key, row, preset):
    """What the paper says of a row that trains."""
    name, table = f"{method} {key}/{row}", f"{method} {key}"
    expected = PRESETS[method, preset] | CHANGES.get(table, {}) | CHANGES.get(name, {})
    return expected | ({"seco": ("intra", "order")} if table == "mcl 1" else {})


def of_measurement(method, key, row, command, protocol, backbone):
    """What the paper says of a row that measures; of the clips, where it says nothing else, that they are those of the
    training."""
    name = f"{method} {key}/{row}"
    trained = {each: value for each, value in of_file(method, backbone).items() if each != "size"}
    return trained | MEASURED[command, protocol] | MEASURED_CHANGES.get(name, {})
