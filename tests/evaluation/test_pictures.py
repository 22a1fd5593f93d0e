"""Pictures are written, have the content they are given, and refuse what they cannot draw."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from matplotlib.image import imread
from PIL import Image

from build_support.sources import ROOT
from motionops.evaluation.pictures import (
    activation_overlay,
    confusion_picture,
    drawing,
    drawn_for,
    flow_colours,
    foreground_overlay,
    map_columns,
    motion_inputs,
    motion_panels,
    moving_picture,
    retrieval_strips,
    scaled_activation,
    score_bars,
    training_curves,
    tsne_picture,
)

GREEN, RED = (0x1A, 0x7F, 0x37), (0xC0, 0x39, 0x2B)


def count_pixels(file, colour):
    pixels = (imread(file)[..., :3] * 255).round()
    return int((abs(pixels - colour).max(axis=-1) <= 2).sum())


def frames(*shape):
    return torch.randint(60, 120, (*shape, 24, 32, 3), dtype=torch.uint8)


def test_activation_map_by_hand():
    features = torch.zeros(2, 2, 1, 1, 3)
    features[0, 0, 0, 0] = torch.tensor([0.0, 2.0, 4.0])
    maps = scaled_activation(features)
    assert torch.allclose(maps[0, 0, 0], torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(maps[1], torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"features must be \[B, C, T, H, W\]"):
        scaled_activation(torch.zeros(2, 3))


def test_activation_overlay(tmp_path):
    file = activation_overlay(frames(2, 4), torch.rand(2, 2, 3, 3), tmp_path / "new" / "maps.png", ["a", "b"])
    assert imread(file).std() > 0
    assert [path.name for path in file.parent.iterdir()] == ["maps.png"]
    with pytest.raises(ValueError, match=r"maps must be \[B=2"):
        activation_overlay(frames(2, 4), torch.rand(3, 2, 3, 3), file)
    with pytest.raises(ValueError, match="frames must be uint8"):
        activation_overlay(frames(2, 4).float(), torch.rand(2, 2, 3, 3), file)


def test_foreground_overlay_blackens_the_background(tmp_path):
    mask = torch.zeros(1, 2, 2, dtype=torch.bool)
    black = count_pixels(foreground_overlay(frames(1), mask, tmp_path / "none.png"), (0, 0, 0))
    mask[0, 0] = True
    half = count_pixels(foreground_overlay(frames(1), mask, tmp_path / "half.png"), (0, 0, 0))
    mask[:] = True
    whole = count_pixels(foreground_overlay(frames(1), mask, tmp_path / "whole.png"), (0, 0, 0))
    assert whole < 0.05 * black
    assert half == pytest.approx(black / 2, rel=0.1)
    with pytest.raises(ValueError, match=r"masks must be bool \[N=1"):
        foreground_overlay(frames(1), mask.float(), tmp_path / "x.png")


def test_flow_colours_by_hand():
    flow = torch.zeros(2, 1, 5)
    flow[:, 0, 1] = torch.tensor([2.0, 0.0])
    flow[:, 0, 2] = torch.tensor([-2.0, 0.0])
    flow[:, 0, 3] = torch.tensor([1.0, 0.0])
    flow[:, 0, 4] = 2 * torch.tensor([math.cos(2 * math.pi / 3), math.sin(2 * math.pi / 3)])
    colours = flow_colours(flow)[0].tolist()
    assert colours[:3] == [[255, 255, 255], [255, 0, 0], [0, 255, 255]]
    assert colours[3] == [255, 128, 128]
    assert colours[4] == [0, 255, 0]
    assert flow_colours(torch.zeros(3, 2, 4, 6)).eq(255).all()
    assert flow_colours(flow, 4.0)[0, 1].tolist() == [255, 128, 128]
    with pytest.raises(ValueError, match=r"flow must be \[..., 2, H, W\]"):
        flow_colours(torch.zeros(3, 4, 4))


def test_motion_panels_draw_box_flow_and_map(tmp_path):
    boxes = torch.tensor([[[0.2, 0.8], [0.9, 0.3]], [[0.0, 1.0], [0.0, 1.0]]])
    pictures = [frames(), torch.randint(60, 120, (10, 40, 3), dtype=torch.uint8)]
    flow, maps = [torch.rand(2, 24, 32), torch.zeros(2, 10, 40)], [torch.rand(5, 6), torch.zeros(4, 4)]
    file = motion_panels(pictures, flow, maps, boxes, tmp_path / "motion.png")
    assert count_pixels(file, (0xFF, 0xD0, 0x00)) > 100
    same = motion_panels(torch.stack([pictures[1]] * 2), torch.rand(2, 2, 5, 20), torch.rand(2, 4, 4), boxes, file)
    assert count_pixels(same, (0xFF, 0xD0, 0x00)) > 100
    with pytest.raises(ValueError, match="of the same N >= 1 videos"):
        motion_panels(torch.empty(0, 8, 8, 3, dtype=torch.uint8), [], [], torch.empty(0, 2, 2), file)
    with pytest.raises(ValueError, match="of the same N >= 1 videos"):
        motion_panels(pictures, flow[:1], maps, boxes, file)
    with pytest.raises(ValueError, match=r"frames must be uint8 \[H, W, 3\]"):
        motion_panels([frames().float()] * 2, flow, maps, boxes, file)


def test_a_moving_picture_goes_through_the_clip(tmp_path):
    """One page a frame, each with its frame, flow and map; the strongest of the whole clip has the last colour."""
    clip = torch.zeros(1, 3, 16, 16, 3, dtype=torch.uint8)
    clip[0, 1] = 200
    flow = torch.zeros(1, 3, 2, 4, 4)
    flow[0, 2, 0] = 3.0  # to the right: red
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, 2] = 5.0
    file = moving_picture(clip, flow, maps, tmp_path / "motion.gif", ["slide"], numbers=torch.arange(10, 13))
    with Image.open(file) as image:
        assert image.n_frames == 3
        pages = []
        for t in range(3):
            image.seek(t)
            pages.append(np.asarray(image.convert("RGB")).astype(int))
    centre, width = pages[0].shape[0] - 64, 132  # of a panel of 128 pixels, and from one to the next
    at = [[tuple(page[centre, 64 + width * column]) for column in range(3)] for page in pages]
    assert [frame for frame, _, _ in at] == [(0, 0, 0), (200, 200, 200), (0, 0, 0)]
    assert [way for _, way, _ in at] == [(255, 255, 255), (255, 255, 255), (255, 0, 0)]
    assert max(at[0][2]) < 10
    assert sum(at[2][2]) > 600  # inferno ends in a light yellow
    with pytest.raises(ValueError, match=r"flow must be \[N=1, T=3, 2, h, w\]"):
        moving_picture(clip, flow[:, :2], maps, file, ["slide"])


def test_dots_and_svg(tmp_path):
    plain = imread(confusion_picture(torch.eye(2).long(), ["a", "b"], tmp_path / "a.png"))
    with drawn_for(200, svg=True):
        fine = imread(confusion_picture(torch.eye(2).long(), ["a", "b"], tmp_path / "b.png"))
    assert fine.shape[:2] == tuple(2 * side for side in plain.shape[:2])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png", "b.svg"]
    assert ElementTree.parse(tmp_path / "b.svg").getroot().tag.endswith("svg")


def test_no_picture_has_a_colour_map_that_misleads():
    """Colours that are no brighter where there is more of it: jet, hsv and their like."""
    for file in (ROOT / "motionops").rglob("*.py"):
        assert not re.search(r"""cmap=["'](jet|hsv|rainbow|turbo)""", file.read_text()), file


def test_maps_stand_beside_each_other_in_columns(tmp_path):
    """A map is light yellow where it is largest, and each is scaled by itself."""
    grey = torch.full((2, 24, 24, 3), 128, dtype=torch.uint8)
    corner = torch.zeros(2, 4, 4)
    corner[:, 0, 0] = 5.0
    size = {}
    for names in (("ours",), ("ours", "theirs"), ("S-motion", "ours", "theirs")):
        file = map_columns(grey, dict.fromkeys(names, corner), tmp_path / "columns.png", ["wave", "bend"])
        picture = imread(file)
        size[len(names)] = picture.shape[1]
        yellow = (picture[..., 0] > 0.8) & (picture[..., 1] > 0.8) & (picture[..., 2] < 0.75)
        assert yellow.any(axis=0).sum() > 3 * len(names)
    assert size[1] < size[2] < size[3]
    with pytest.raises(ValueError, match=r"map_columns: ours must be \[N=2, h, w\], got \[1, 4, 4\]"):
        map_columns(grey, {"ours": corner[:1]}, tmp_path / "columns.png")


def test_four_motion_inputs_of_a_video(tmp_path):
    """The difference of equal frames is half grey, and flow to the right is red."""
    still = torch.full((1, 16, 16, 3), 40, dtype=torch.uint8)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 3.0
    file = motion_inputs(still, still, flow, torch.zeros(1, 16, 16), tmp_path / "inputs.png")
    assert count_pixels(file, (128, 128, 128)) > 1000
    assert count_pixels(file, tuple(flow_colours(flow)[0, 0, 0].tolist())) > 1000
    with pytest.raises(ValueError, match="of the same N >= 1 videos, got 1, 1, 1 and 2"):
        motion_inputs(still, still, flow, torch.zeros(2, 16, 16), tmp_path / "inputs.png")


def test_retrieval_strips_mark_right_and_wrong(tmp_path):
    query = (frames()[...], "wave")
    right = retrieval_strips([query], [[(frames(), "wave")]], tmp_path / "right.png")
    wrong = retrieval_strips([query], [[(frames(), "bend")]], tmp_path / "wrong.png")
    assert count_pixels(right, GREEN) > 100 > count_pixels(right, RED)
    assert count_pixels(wrong, RED) > 100 > count_pixels(wrong, GREEN)
    uneven = retrieval_strips([query, query], [[query] * 3, [query]], tmp_path / "uneven.png")
    assert uneven.is_file()
    with pytest.raises(ValueError, match="one list of neighbours a query"):
        retrieval_strips([query], [], tmp_path / "x.png")


def test_a_title_stays_within_its_panel(tmp_path):
    """Each word alone on a white picture: what is left of it is as wide as the panel at most, and keeps both ends."""
    long = "Pretending to open something without actually opening it"
    assert drawing.written("BaseballPitch", 1.5) == "BaseballPitch"
    assert drawing.written(long) == long
    for name in (long, "W" * 60, "dog $park$ & <kids> in the garden"):
        for inches in (0.7, 1.5):
            shown = drawing.written(name, inches)
            head, tail = shown.replace(r"\$", "$").split("…")
            assert name.startswith(head)
            assert name.endswith(tail)
            assert abs(len(head) - len(tail)) <= 2
            fig, (axis,) = drawing.figure(1, 1, width=4.0, height=0.5)
            axis.axis("off")
            axis.set_title(shown, fontsize=8)
            ink = (imread(drawing.save(fig, tmp_path / "title.png"))[..., :3] < 0.9).any(axis=(0, 2)).nonzero()[0]
            assert 0.75 * inches < (ink[-1] - ink[0] + 1) / 100 <= inches, (name, inches)


def test_training_curves(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,epoch,loss,accuracy,loss_epoch\n10,0,3.5,,\n20,0,nan,20,\n30,1,2.5,30,2.9\n")
    assert imread(training_curves(metrics, tmp_path / "curves.png")).std() > 0
    for text in ("", "step,loss\n", "a,b\n1,2\n", "step,loss\n1,\n"):
        metrics.write_text(text)
        with pytest.raises(ValueError, match=r"training_curves: .*metrics\.csv"):
            training_curves(metrics, tmp_path / "x.png")


@pytest.fixture
def fonts(monkeypatch):
    """Which fonts are installed beside matplotlib's own: none."""
    from matplotlib import font_manager

    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(drawing, "_numbers", {})
    monkeypatch.setattr(drawing, "_further", {})
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    for kept in (drawing._font_of, drawing._new_fonts):
        kept.cache_clear()
    yield own
    for kept in (drawing._font_of, drawing._new_fonts):
        kept.cache_clear()


def test_names_that_no_font_has_are_numbers_and_one_line_each(tmp_path, capsys, fonts, recwarn):
    counts = torch.tensor([[2, 1], [0, 3]])
    confusion_picture(counts, ["走路", "跑步 fast"], tmp_path / "a.png")
    assert capsys.readouterr().err.splitlines() == [
        "warning: no font here has 走路: pictures show it as #1; Noto Sans CJK (Debian's fonts-noto-cjk) mends it",
        "warning: no font here has 跑步: pictures show it as #2; Noto Sans CJK (Debian's fonts-noto-cjk) mends it",
    ]
    assert drawing.written("✓ 走路") == "✓ #1"
    assert drawing.written("跑步 fast\nagain") == "#2 fast again"
    confusion_picture(counts, ["#1", "#2 fast"], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert capsys.readouterr().err == ""
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]
    assert drawing.written("हिन्दी") == "#3"
    assert "a font of devanagari, as Noto has them, mends it" in capsys.readouterr().err
    assert drawing.numbers_shown() == {"走路": 1, "跑步": 2, "हिन्दी": 3}


def test_a_font_that_has_the_letters_is_taken(tmp_path, capsys, fonts, recwarn):
    """MATHEMATICAL FRAKTUR SMALL A is in STIX, which comes with matplotlib, and not in DejaVu Sans."""
    name = "\U0001d51e"
    assert drawing.written(name) == name
    tsne_picture(torch.rand(2, 2), [name, "b"], tmp_path / "with.png", [name, "b"])
    assert capsys.readouterr().err == ""
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    while family := drawing._font_of(name):
        fonts[:] = [font for font in fonts if font.name != family]
        drawing._font_of.cache_clear()
    assert drawing.written(name) == "#1"


def test_a_font_that_was_installed_since_is_found(fonts, monkeypatch):
    """Matplotlib keeps a list of the fonts that there were when it was first used."""
    from matplotlib import font_manager

    name = "\U0001d51e"
    later = [font.fname for font in fonts if "STIX" in font.name]
    fonts[:] = [font for font in fonts if font.fname not in later]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: later)
    assert drawing.written(name) == name
    assert any("STIX" in family for family in drawing._further)


def test_a_dollar_begins_no_formula(tmp_path):
    names = ["c$_{x$d", "$$", "5 $"]
    confusion_picture(torch.eye(3).long(), names, tmp_path / "a.png")
    tsne_picture(torch.rand(3, 2), names, tmp_path / "b.png", names)
    retrieval_strips([(frames()[None][0], names[0])], [[(frames()[None][0], names[1])]], tmp_path / "c.png")
    score_bars(names, {"top1": [(50.0, 40.0, 60.0)] * 3}, tmp_path / "d.png")
