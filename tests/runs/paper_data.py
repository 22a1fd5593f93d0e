"""A folder in which the papers' commands can be typed: the data sets as they are distributed, but small, and the
weights that others distribute. 96 frames of 40 x 40 pixels a video, 12 training and 3 test videos of 3 classes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torchvision.models import googlenet, resnet50

from motionops.commands import prepare
from motionops.video import moving_shapes, read_video
from motionops.video.encoding import write_video

NAMES = ("slide", "rise", "fall")
TRAIN, TEST, FRAMES, SHORT = 4, 1, 96, 20


def make_folder(folder: Path) -> None:
    """Fill a folder, which is the working directory."""
    every = len(moving_shapes.CLASSES)
    made = moving_shapes.generate(
        folder / "made", train=TRAIN * every, test=TEST * every, frames=FRAMES, codec="mpeg4", progress=False
    )
    videos = {
        split: [(name, sorted((made / name).glob(f"*_{split}_*"))) for name in NAMES] for split in ("train", "test")
    }
    ucf101(folder, videos)
    hmdb51(folder, videos)
    kinetics(folder, videos)
    by_records(folder, videos)
    weights(folder)
    # As the words above the tables of Context-Motion Decoupling have it.
    line = "reencode --codec mpeg4 --gop 12 --data UCF-101 --output UCF-101-mpeg4"
    assert prepare.main(line.split()) == 0
    line = "reencode --codec mpeg4 --gop 12 --data kinetics400 --output kinetics400-mpeg4"
    assert prepare.main(line.split()) == 0


def copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def ucf101(folder: Path, videos: dict) -> None:
    """Class folders, lists of which the test's has no labels, and the classes' numbers. One video is too short."""
    lines = {"train": [], "test": []}
    for split, classes in videos.items():
        for number, (name, files) in enumerate(classes, 1):
            for each, file in enumerate(files):
                path = f"{name}/v_{name}_g{each:02d}_{split}.avi"
                copied(file, folder / "UCF-101" / path)
                lines[split].append(f"{path} {number}" if split == "train" else path)
    short = folder / "UCF-101" / lines["train"][0].split()[0]
    write_video(short, read_video(short)[:SHORT].numpy(), codec="mpeg4")
    (folder / "trainlist01.txt").write_text("\n".join(lines["train"]) + "\n")
    (folder / "testlist01.txt").write_text("\n".join(lines["test"]) + "\n")
    (folder / "classInd.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(NAMES, 1)))


def hmdb51(folder: Path, videos: dict) -> None:
    """A split file a class, in one folder: 1 is train, 2 is test. A third of the videos are short."""
    (folder / "splits").mkdir()
    for place, name in enumerate(NAMES):
        lines = []
        for code, split in ((1, "train"), (2, "test")):
            for each, file in enumerate(videos[split][place][1]):
                path = copied(file, folder / "hmdb51" / name / f"film_{name}_{split}{each}.avi")
                lines.append(f"{path.name} {code}")
                if each % 3 == 2:
                    write_video(path, read_video(path)[:SHORT].numpy(), codec="mpeg4")
        (folder / "splits" / f"{name}_test_split1.txt").write_text("\n".join(lines) + "\n")


def kinetics(folder: Path, videos: dict) -> None:
    """csv files of clips of longer videos."""
    head = "label,youtube_id,time_start,time_end,split"
    for split, name in (("train", "train"), ("test", "val"), ("train", "mini")):
        lines = [head]
        for place, (label, files) in enumerate(videos[split]):
            for each, file in enumerate(files):
                lines.append(f"{label},video{split}{place}{each},10,20,{split}")
                copied(file, folder / "kinetics400" / split / label / f"video{split}{place}{each}_000010_000020.mp4")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def by_records(folder: Path, videos: dict) -> None:
    """Diving48, both its labellings, and Something-Something v2: json records of names without folders."""
    diving, something = {"train": [], "test": []}, {"train": [], "test": []}
    for split, classes in videos.items():
        for place, (name, files) in enumerate(classes):
            for each, file in enumerate(files):
                stem = f"{split}{place}{each}"
                for data in ("diving48", "diving48-v1"):
                    copied(file, folder / data / f"{stem}.mp4")
                copied(file, folder / "ssv2" / f"{stem}.mp4")
                diving[split].append({"vid_name": stem, "label": place, "start_frame": 0, "end_frame": FRAMES})
                something[split].append({"id": stem, "label": name, "template": f"Moving [something]: {name}"})
    for split, long in (("train", "train"), ("test", "validation")):
        for version in ("_V2", ""):
            (folder / f"Diving48{version}_{split}.json").write_text(json.dumps(diving[split]))
        (folder / f"something-something-v2-{long}.json").write_text(json.dumps(something[split]))
    (folder / "something-something-v2-labels.json").write_text(
        json.dumps({f"Moving something: {name}": str(place) for place, name in enumerate(NAMES)})
    )


def weights(folder: Path) -> None:
    """As MoCo's authors and torchvision distribute them."""
    images = resnet50(weights=None).state_dict()
    torch.save(images, folder / "resnet50.pth")
    moco = {f"module.encoder_q.{name}": value for name, value in images.items() if not name.startswith("fc.")}
    torch.save({"arch": "resnet50", "state_dict": moco}, folder / "moco_v2_200ep_pretrain.pth.tar")
    torch.save(
        googlenet(weights=None, aux_logits=False, init_weights=False).state_dict(), folder / "moco_googlenet.pth"
    )
