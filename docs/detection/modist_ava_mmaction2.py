"""MoDist's Table 5 (AVA v2.1, 8 x 8 clips, 20 epochs, rate 0.1, batch 64) as a configuration of mmaction2 1.2, untried:
nobody has trained with it here. What was checked is that it composes, and that the detector's backbone has the keys and
shapes of the file that

    python -m motionops.models.export --to mmaction2 --backbone runs/modist/backbone.safetensors --output modist_ava.pth

writes (tests/models/test_export.py). The detector is that of mmaction2's own configuration; AVA, its annotations and
the proposals lie where that one says. Eight GPUs with eight clips each.
"""

_base_ = "mmaction::detection/slowonly/slowonly_kinetics400-pretrained-r50_8xb16-4x16x1-20e_ava21-rgb.py"

model = {
    "init_cfg": {"checkpoint": "modist_ava.pth"},
    "backbone": {"conv1_kernel": (5, 7, 7)},  # the stem of MoDist's Table 1
    # The mean and deviation that the backbone was trained with, of 0..255.
    "data_preprocessor": {"mean": [110.2008, 100.63983, 95.99475], "std": [58.14765, 56.46975, 55.332195]},
}

train_pipeline = [
    {"type": "SampleAVAFrames", "clip_len": 8, "frame_interval": 8},
    {"type": "RawFrameDecode", "io_backend": "disk"},
    {"type": "RandomRescale", "scale_range": (256, 320)},
    {"type": "RandomCrop", "size": 256},
    {"type": "Flip", "flip_ratio": 0.5},
    {"type": "FormatShape", "input_format": "NCTHW", "collapse": True},
    {"type": "PackActionInputs"},
]
val_pipeline = [
    {"type": "SampleAVAFrames", "clip_len": 8, "frame_interval": 8, "test_mode": True},
    {"type": "RawFrameDecode", "io_backend": "disk"},
    {"type": "Resize", "scale": (-1, 256)},
    {"type": "FormatShape", "input_format": "NCTHW", "collapse": True},
    {"type": "PackActionInputs"},
]
train_dataloader = {"batch_size": 8, "dataset": {"pipeline": train_pipeline}}
val_dataloader = {"dataset": {"pipeline": val_pipeline}}
test_dataloader = val_dataloader

optim_wrapper = {"optimizer": {"lr": 0.1}}
