"""Controllable Augmentations on videos of several acts, by rows and seeds (docs/results.md, Several acts).

    python benchmarks/several_acts.py --seeds 0 1 2 3 4 --output build/several_acts

Each row is trained by the trainer's own loop, and measured by three questions to the frozen network: which motion an
act has (f of clips within it), in which order two motions come (f' of the whole video), and at which level of jitter a
clip is (f, which should not say). A line of JSON for a row and seed is written as soon as it is there; what is there is
not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import motionops
from motionops.evaluation.protocols.retrieval import retrieval_recall
from motionops.methods.controllable import Controllable, ControllableConfig, make_dataset
from motionops.models import finer_in_time
from motionops.training.data.manifest import TrainingVideos
from motionops.training.run import train
from motionops.video import moving_shapes, read_list, read_video

ACT_FRAMES, TRAIN, TEST, RAMP = 24, 320, 160, 0.6
CLIPS_OF_AN_ACT = 3
PROTOCOL = {
    "epochs": 14,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "size": 24,
    "drawn_levels": 8,
    "weight_mi": 1.0,
    "weight_td": 0.1,
    "workers": 0,
    "log_every": 10,
    "checkpoint_every": 1000,
    "logger": ("csv",),
    "overwrite": True,  # a run that was cut has no line, and is made again
}
ROWS = {
    "instance contrast": {"losses": ("nce",)},
    "region contrast": {"losses": ("rc",)},
    "full": {"losses": ("rc", "mi", "td")},
    "full without L_mi": {"losses": ("rc", "td")},
    "untrained": {"losses": ("rc",), "max_steps": 0},
}
FACTORS = ("brightness", "contrast", "saturation", "hue", "blur")


def readout(features, classes, test_features, test_classes, groups=None):
    """Per cent right of a linear classifier (ridge, its strength by leave-one-out on the training set); with `groups`,
    one for each test row, among the classes of its group alone."""
    strengths = np.logspace(-1, 5, 13)
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(strengths)).fit(features, classes)
    if groups is None:
        return 100.0 * float(model.score(test_features, test_classes))
    scores = model.decision_function(test_features)
    scores[~np.asarray(groups)] = -np.inf
    return 100.0 * float((model.classes_[scores.argmax(axis=1)] == test_classes).mean())


class Measured:
    """The set's videos, decoded once, and the questions."""

    def __init__(self, folder: Path, config: ControllableConfig) -> None:
        self.config = config
        self.frames, self.label = {}, {}
        for split in ("test", "train"):
            videos = [replace(video, frames=2 * ACT_FRAMES) for video in read_list(folder / f"{split}.txt")]
            self.videos = TrainingVideos(videos)
            self.frames[split] = torch.stack([read_video(video.path) for video in videos])
            self.label[split] = np.array([int(video.label) for video in videos])
        self.orders = moving_shapes.classes(2)

    def clips(self, frames: torch.Tensor, look=None) -> torch.Tensor:
        c = self.config
        extents = torch.tensor([[0.0, c.frames * c.stride], [0.0, 1.0], [0.0, 1.0]]).expand(len(frames), 3, 2)
        return motionops.augment_clips(frames, extents.contiguous(), c.size, look, mean=c.mean, std=c.std)

    @torch.no_grad()
    def features(self, backbone, clips: torch.Tensor) -> torch.Tensor:
        parts = [backbone(part.to(memory_format=torch.channels_last_3d)).float() for part in clips.split(64)]
        return torch.cat(parts).mean(dim=(2, 3, 4))

    def acts(self, backbone, split: str):
        """Features `[acts, C]`, the mean over clips within the act, and the motion of each."""
        c = self.config
        videos = self.frames[split]
        room = ACT_FRAMES - (c.frames - 1) * c.stride - 1
        numbers = [
            act * ACT_FRAMES + round(room * part / (CLIPS_OF_AN_ACT - 1)) + c.stride * torch.arange(c.frames)
            for act in range(2)
            for part in range(CLIPS_OF_AN_ACT)
        ]
        clips = self.clips(videos[:, torch.stack(numbers)].flatten(0, 1))
        features = self.features(backbone, clips).view(len(videos) * 2, CLIPS_OF_AN_ACT, -1).mean(dim=1)
        motions = [name for label in self.label[split] for name in self.orders[label]]
        return features, motions

    def whole(self, module, split: str) -> torch.Tensor:
        """f' of the global view `[videos, C]`."""
        c, videos = self.config, self.frames[split]
        spread = ((torch.arange(c.frames) + 0.5) * videos.shape[1] / c.frames).long()
        with finer_in_time(module.backbone, module.factor):
            return self.features(module.backbone, self.clips(videos[:, spread]))

    def jittered(self, backbone, split: str, seed: int):
        """Features of two clips a video at random levels, and the levels' digits `[clips, 5]`."""
        c, videos = self.config, self.frames[split]
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(videos.shape[1] - c.frames * c.stride, (len(videos), 2), generator=generator)
        numbers = starts[..., None] + c.stride * torch.arange(c.frames)
        clips = torch.cat([video[rows] for video, rows in zip(videos, numbers, strict=True)])
        levels = c.levels()
        drawn = torch.randint(levels.count, (len(clips),), generator=generator)
        look = levels.appearance(drawn, generator)
        return self.features(backbone, self.clips(clips, look)), levels.digits(drawn).numpy()

    def answers(self, module: Controllable) -> dict[str, float]:
        module.eval()
        backbone = module.backbone
        (known, motions), (asked, right) = (self.acts(backbone, split) for split in ("train", "test"))
        answers = {"act R@1": retrieval_recall(asked, right, known, motions)["R@1"]}
        answers["act"] = readout(known.numpy(), motions, asked.numpy(), np.array(right))
        whole, test_whole = (self.whole(module, split).numpy() for split in ("train", "test"))
        answers["order class"] = readout(whole, self.label["train"], test_whole, self.label["test"])
        pair = [[{*order} == {*self.orders[label]} for order in self.orders] for label in self.label["test"]]
        answers["order"] = readout(whole, self.label["train"], test_whole, self.label["test"], pair)
        (known, digits), (asked, wanted) = (
            self.jittered(backbone, split, seed) for split, seed in (("train", 1), ("test", 2))
        )
        for place, factor in enumerate(FACTORS):
            answers[factor] = readout(known.numpy(), digits[:, place], asked.numpy(), wanted[:, place])
        return answers


def trained(config: ControllableConfig, videos: TrainingVideos) -> Controllable:
    """A run of the trainer's own loop."""
    kept = []
    train(
        config,
        Controllable.for_videos,
        make_dataset,
        lambda c, module, *rest: kept.append(module),
        find=lambda c, progress: videos,
    )
    return kept[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--output", type=Path, default=Path("build/several_acts"))
    parser.add_argument("--set", type=json.loads, default={}, help="flags that differ from the protocol, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    shapes = {"train": TRAIN, "test": TEST, "frames": ACT_FRAMES, "acts": 2, "ramp": RAMP, "progress": False}
    folder = moving_shapes.generate(args.output / "videos", **shapes)
    config = replace(ControllableConfig(), data=folder, list=folder / "train.txt", **{**PROTOCOL, **args.set})
    measured = Measured(folder, config)
    results = args.output / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(line["row"], line["seed"]) for line in lines}
    for seed in args.seeds:
        for row in args.rows:
            if (row, seed) in done:
                continue
            own = replace(config, seed=seed, output=args.output / f"{row.replace(' ', '-')}-{seed}", **ROWS[row])
            started = time.process_time()
            module = trained(own, measured.videos)
            seconds = time.process_time() - started
            answers = measured.answers(module)
            whole = {"row": row, "seed": seed, **{name: round(value, 2) for name, value in answers.items()}}
            whole |= {"training seconds": round(seconds, 1), "seconds": round(time.process_time() - started, 1)}
            whole["last"] = {name: round(float(value), 4) for name, value in module.metrics.items()}
            with results.open("a") as file:
                file.write(json.dumps(whole) + "\n")
            print(json.dumps(whole), flush=True)


if __name__ == "__main__":
    main()
