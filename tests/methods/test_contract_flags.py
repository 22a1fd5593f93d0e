"""Every flag that has a range refuses what lies beyond each of its bounds, and holds the bounds that belong to it.

The bounds are read out of the sentence that a user is told, and not out of the numbers that are compared.
"""

import csv
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from motionops.commandline import parse
from motionops.commands.train import exported
from motionops.errors import UserError
from motionops.flags import Only, Range
from motionops.models import build_backbone, save_backbone
from motionops.training.config import TrainConfig
from motionops.training.method import Method
from motionops.video import read_video
from motionops.video.encoding import write_video
from tests.methods.tiny import CARDS, NAMES, package_of, tiny, trained

SENTENCES = {
    r"must be positive": lambda: (0.0, True, math.inf, True),
    r"must not be negative": lambda: (0.0, False, math.inf, True),
    r"must be at least (\S+)": lambda low: (low, False, math.inf, False),
    r"must be at most (\S+)": lambda high: (-math.inf, False, high, False),
    r"must be epochs from (\S+) on": lambda low: (low, False, math.inf, False),
    r"must be in ([\[(])(\S+), (\S+?)([\])])": lambda left, low, high, right: (low, left == "(", high, right == ")"),
}


def bounds(words):
    """(low, whether it is out, high, whether it is out)."""
    ((bound, found),) = [(b, m) for pattern, b in SENTENCES.items() if (m := re.fullmatch(pattern, words))]
    return bound(*(part if part in "[]()" else float(part) for part in found.groups()))


def default(name):
    return exported(package_of(name), TrainConfig)()


def ranges(config):
    """(flag's field, its range, whether it is of whole numbers) of each range."""
    for field, hint in get_type_hints(type(config), include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Range):
                kind = get_args(hint)[0]
                kind = get_args(kind)[0] if get_origin(kind) is tuple else kind
                yield field, mark, kind is int


CASES = [(name, *each) for name in NAMES for each in ranges(default(name))]


def with_value(config, field, value):
    """A tuple's last value is the one; () is a tuple of any length."""
    held = getattr(config, field)
    return replace(config, **{field: (*held[:-1], value) if isinstance(held, tuple) else value})


def said(config, field, value):
    """What the configuration is refused with, if it is."""
    try:
        with_value(config, field, value).check()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("method", "field", "mark", "whole"), CASES, ids=[f"{method}-{field}" for method, field, *_ in CASES]
)
def test_a_flag_refuses_what_lies_beyond_its_bounds(method, field, mark, whole):
    config = default(method)
    low, low_is_out, high, high_is_out = bounds(mark.words)
    beyond, held = [], []
    for bound, outward, is_out in ((low, -math.inf, low_is_out), (high, math.inf, high_is_out)):
        if math.isfinite(bound):
            (beyond if is_out else held).append(bound)
            beyond.append(bound + math.copysign(1, outward) if whole else math.nextafter(bound, outward))
    if whole:
        beyond, held = [int(value) for value in beyond], [int(value) for value in held]
    else:
        beyond += [math.nan, -math.inf, math.inf]
    assert beyond
    flag = f"--{field.replace('_', '-')}"
    for value in beyond:
        text = said(config, field, value)
        assert re.fullmatch(rf"{flag}: {re.escape(mark.words)}, got (\S+ )*{re.escape(str(value))}", text), value
    for value in held:
        assert not said(config, field, value).startswith(f"{flag}: {mark.words}"), value


@pytest.mark.parametrize("method", NAMES)
def test_a_number_without_a_range_has_a_check_of_its_own(method):
    config = default(method)
    hints = get_type_hints(type(config), include_extras=True)
    numbers = {field for field, hint in hints.items() if hint in (int, float)}
    for field in numbers:
        assert said(config, field, -1), f"--{field.replace('_', '-')}: -1 is taken"


# What a variant of any method may be, beside those of its card.
FURTHER = (
    {"data": Path("videos")}, {"milestones": (10,)}, {"decoder": "dali"}, {"checkpoint_every": 5}, {"workers": 0},
    {"losses": ("nce",)}, {"losses": ("vv",)}, {"losses": ("v",)}, {"alpha": 0.0}, {"alpha": 1.0}, {"motion": False},
)  # fmt: skip
# (method, flags, the one that says nothing beside the others): each was taken without a word once.
IDLE = [
    ("fima", "--losses vv --radius 1.4", "--radius"),
    ("fima", "--losses vv --mask-source rgb", "--mask-source"),
    ("fima", "--mask-position none --foreground-ratio 0.3", "--foreground-ratio"),
    ("fima", "--losses pix --queue 1024", "--queue"),
    ("fima", "--milestones 10 --schedule epoch", "--schedule"),
    ("mcl", "--no-motion --motion-file /nonexistent", "--motion-file"),
    ("mcl", "--no-motion --weight-alignment 2", "--weight-alignment"),
    ("mcl", "--motion-source on-the-fly --no-temporal-sampling", "--temporal-sampling"),
    ("mcl", "--alignment-boost 2", "--alignment-boost"),
    ("mcl", "--weight-alignment 0 --alignment-variant v3", "--alignment-variant"),
    ("mcl", "--motion-source on-the-fly --no-spatial-crop --weight-alignment 0", "--motion-source"),
    ("modist", "--flow tvl1 --prepared /nonexistent", "--prepared"),
    ("modist", "--losses v --gamma 5", "--gamma"),
    ("modist", "--losses v m --weight-mv 2", "--weight-mv"),
    ("controllable", "--losses rc td --marginals 4", "--marginals"),
    ("controllable", "--order-head vcop --shuffles 2", "--shuffles"),
    ("context_motion", "--levels 5", "--levels"),
    ("context_motion", "--alpha 0 --hard-negatives 1", "--hard-negatives"),
    ("context_motion", "--predictor convgru --heads 2", "--heads"),
]


@pytest.mark.parametrize(("method", "flags", "idle"), IDLE, ids=[f"{method} {flags}" for method, flags, _ in IDLE])
def test_a_flag_that_the_others_leave_without_effect_is_refused(method, flags, idle):
    package = package_of(method)
    with pytest.raises(UserError) as error:
        parse(exported(package, TrainConfig), package.PRESETS, flags.split()).check()
    assert str(error.value).startswith(f"{idle}")
    assert "\n" not in str(error.value)


def another(config, field):
    """A value that the flag may have and has not."""
    held, hint = getattr(config, field), get_type_hints(type(config))[field]
    if isinstance(held, bool):
        return not held
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return next(each for each in options if each != held)
    if isinstance(held, (int, float)):
        return held / 2 if isinstance(held, float) and held else held + 1
    if isinstance(held, tuple):
        return held[:-1] if held else (1,)
    return Path("anything")


def marked(config):
    """(flag's field, mark) of each flag that says something beside others alone."""
    hints = get_type_hints(type(config), include_extras=True)
    return [(name, mark) for name, hint in hints.items() for mark in get_args(hint) if isinstance(mark, Only)]


@pytest.mark.parametrize(
    ("method", "field"), [(method, field) for method in NAMES for field, _ in marked(default(method))]
)
def test_each_flag_that_may_be_idle_is_refused_where_it_is(method, field):
    """In each variant in which its mark says so; there is such a variant."""
    variants = [replace(default(method), **flags) for flags in (*CARDS[method].ablations, *FURTHER, CARDS[method].flow)
                if flags.keys() <= vars(default(method)).keys()]  # fmt: skip
    marks = dict(marked(default(method)))
    idle = [config for config in variants if not marks[field].holds(config)]
    assert idle, "no variant leaves it idle: name one in CARDS or FURTHER"
    for config in idle:
        with pytest.raises(UserError) as error:
            replace(config, **{field: another(config, field)}).refuse_idle(config)
        assert re.fullmatch(rf"--{field.replace('_', '-')}: says something with .* alone, which is not so here",
                            str(error.value))  # fmt: skip


@pytest.mark.parametrize("method", NAMES)
def test_every_method_starts_from_given_weights_and_holds_short_videos(method, tmp_path):
    config = default(method)
    with pytest.raises(UserError, match=r"--init: there is no file .*nothing.pth"):
        replace(config, init=tmp_path / "nothing.pth").check()
    backbone = build_backbone("r3d_small")
    save_backbone(backbone, tmp_path / "start.safetensors")
    begun = exported(package_of(method), Method)(replace(config, init=tmp_path / "start.safetensors"))
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in begun.backbone.state_dict().items())
    assert replace(config, short="hold").least_frames() == 1 < config.least_frames() == config.window()


@pytest.mark.parametrize("method", NAMES)
def test_a_short_video_holds_its_last_frame(method, shapes, tmp_path):
    """A run of --short hold on videos of 3 frames, one step of it: none is skipped."""
    frames = read_video(next(shapes.rglob("*.mp4")))[:3].numpy()
    for number in range(4):
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{number}.mp4", frames)
    flags = {"data": tmp_path / "data", "list": None, "short": "hold", "max_steps": 1, "size": 32}
    config = tiny(method, shapes, tmp_path / "run", **flags)
    assert config.window() > 3
    trained(method, config)
    assert (config.output / "last.ckpt").exists()
    with open(config.output / "metrics.csv") as file:
        assert math.isfinite(float(next(csv.DictReader(file))["loss"]))


@pytest.mark.parametrize("method", NAMES)
def test_every_method_has_groups_of_batch_norm(method):
    assert "group" in {field.name for field in fields(default(method))}
