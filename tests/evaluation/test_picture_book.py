"""evaluate.py pictures: every chapter is drawn, and the report opens by itself in a browser, on narrow screens too."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("tyro")
from matplotlib.image import imread

from motionops.commandline import run_commands
from motionops.commands.evaluate import program
from motionops.commands.evaluate.pictures import _parts_of
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.pictures import (
    affinity_matrix,
    affinity_picture,
    clip_similarities,
    confusion_picture,
    drawing,
    point_attention,
    score_bars,
    score_curve,
    tsne,
    tsne_picture,
)
from motionops.evaluation.pictures.book.shown_clips import shown_clips
from motionops.evaluation.pictures.book.subject import PictureSubject
from motionops.evaluation.pictures.gradcam import grad_cam
from motionops.evaluation.pictures.page import Picture, Section, write_page
from motionops.evaluation.protocols.class_titles import class_titles, titled
from motionops.methods.fima import FIMA, FIMAConfig
from motionops.models import save_backbone
from motionops.training.run_folder import plain
from motionops.video import Video

ROOT = Path(__file__).parent.parent.parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Channels(nn.Module):
    """The clip's first two channels as the feature map."""

    channels = 2

    def forward(self, clip):
        return clip[:, :2]


def test_grad_cam_of_a_linear_classifier_is_its_class_activation_map():
    clips = torch.rand(2, 3, 4, 5, 6)
    weight = torch.tensor([[1.0, 0.0], [-2.0, 3.0]])
    found = grad_cam(Channels(), clips, lambda pooled: pooled @ weight.T, [0, 1])
    for number in range(2):
        expected = (weight[number][:, None, None, None] * clips[number, :2]).sum(dim=0).relu()
        assert torch.allclose(found[number], expected / expected.max(), atol=1e-5)
    nothing = grad_cam(Channels(), clips, lambda pooled: -pooled, [0, 0])
    assert torch.equal(nothing, torch.zeros(2, 4, 5, 6))
    with pytest.raises(ValueError, match=r"classes must be \[B=2\], got \[3\]"):
        grad_cam(Channels(), clips, lambda pooled: pooled, [0, 0, 0])
    with pytest.raises(ValueError, match=r"must give maps \[B, C, T, H, W\], got \[2, 3\]"):
        grad_cam(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten()), clips, lambda pooled: pooled, [0, 0])


def test_affinity_by_hand():
    maps = torch.zeros(2, 2, 3, 1, 2)
    maps[:, 0, :, 0, 0] = 2.0
    maps[:, 1, :, 0, 1] = 5.0
    assert torch.allclose(affinity_matrix(maps, maps), torch.eye(2))
    turned = maps.flip(-1)
    assert torch.allclose(affinity_matrix(maps, turned), torch.eye(2).flip(0))
    half = torch.stack([maps[0], turned[1]])
    assert torch.allclose(affinity_matrix(maps, half), torch.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"second must be \[B=2, C=2, T, H, W\], got \[1, 2, 3, 1, 2\]"):
        affinity_matrix(maps, maps[:1])


def test_tsne_keeps_groups_apart_and_does_not_depend_on_chance():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 8, generator=generator) * 0.1
    features[:20, 0] += 5
    features[20:, 1] += 5
    points = tsne(features)
    within = torch.cdist(points[:20], points[:20]).mean() + torch.cdist(points[20:], points[20:]).mean()
    assert torch.cdist(points[:20], points[20:]).mean() > within
    assert torch.equal(tsne(features), points)
    with pytest.raises(ValueError, match="N >= 3"):
        tsne(features[:2])


def test_pictures_are_written_and_refuse_what_they_cannot_draw(tmp_path):
    frames = torch.randint(0, 255, (2, 20, 30, 3), dtype=torch.uint8)
    points, weights = torch.tensor([[0.5, 0.5], [0.1, 0.9]]), torch.rand(2, 4, 4)
    files = [
        affinity_picture([torch.eye(4), torch.eye(4)], ["a", "b"], tmp_path / "affinity.png"),
        tsne_picture(torch.rand(30, 2), [f"c{n % 15}" for n in range(30)], tmp_path / "tsne.png"),
        tsne_picture(torch.rand(30, 2), [f"c{n}" for n in range(30)], tmp_path / "many.png"),
        confusion_picture(torch.tensor([[3, 1], [0, 2]]), ["a", "b"], tmp_path / "confusion.png"),
        confusion_picture(torch.ones(101, 101).long(), [f"{n}" for n in range(101)], tmp_path / "large.png"),
        point_attention(frames, points, frames, weights, tmp_path / "attention.png", ["a", "b"]),
        score_curve([(1, 20, 10, 30), (100, 50, 40, 60)], tmp_path / "curve.png", x="x", y="y", chance=12.5),
        score_bars(["a", "b"], {"top1": [(50, 40, 60), None]}, tmp_path / "bars.png", {"top1": 10.0}),
    ]
    for file in files:
        assert imread(file).std() > 0.01
    with pytest.raises(ValueError, match=r"confusion must be \[K=2, K=2\]"):
        confusion_picture(torch.eye(3).long(), ["a", "b"], tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"points must be \[N=2, 2\]"):
        point_attention(frames, points[:1], frames, weights, tmp_path / "x.png")
    with pytest.raises(ValueError, match="a title a matrix"):
        affinity_picture([torch.eye(2)], [], tmp_path / "x.png")
    with pytest.raises(ValueError, match="with a label each"):
        tsne_picture(torch.rand(3, 2), ["a"], tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one, got none"):
        score_curve([], tmp_path / "x.png", x="x", y="y")
    with pytest.raises(ValueError, match="one value of each of 2 runs"):
        score_bars(["a", "b"], {"top1": [None]}, tmp_path / "x.png")


def test_shown_clips_are_what_the_network_sees(counting_videos, tmp_path):
    settings = {"frames": 4, "stride": 2, "size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop": 1.0}
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"x")
    shown = shown_clips([*counting_videos[:2], Video(str(broken), "a")], settings)
    assert len(shown.videos) == 2
    assert shown.clips.shape == (2, 3, 4, 16, 16)
    assert torch.allclose(shown.clips, (shown.plain - 0.5) / 0.5, atol=1e-5)
    # The middle one of the possible starts of 24 frames is 8 or 9; a frame's number is its grey level over 8.
    first = shown.plain[0, :, 0].mean() * 255 / 8
    assert 8 - 0.4 < first < 9 + 0.4
    assert abs(float(shown.following[0].float().mean() / 8 - (first + 5))) < 0.5
    assert shown.pictures.shape == (2, 4, 160, 160, 3)


def test_a_page_holds_its_pictures_and_takes_text_as_text(tmp_path):
    confusion_picture(torch.eye(2).long(), ["a", "b"], tmp_path / "a.png")
    section = Section("A <b>", 'x & "y"', [["name", "value"], ["<i>", "1"]], [Picture(tmp_path / "a.png", "<caption>")])
    text = write_page("<title>", [section], tmp_path / "report.html").read_text()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;caption&gt;" in text
    assert "x &amp; &quot;y&quot;" in text
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert base64.b64decode(data) == (tmp_path / "a.png").read_bytes()
    assert not re.search(r'(src|href)="(?!data:|#)', text)  # nothing is fetched
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match="is neither PNG nor GIF"):
        write_page("t", [Section("s", pictures=[Picture(tmp_path / "b.png", "c")])], tmp_path / "report.html")


@pytest.fixture(scope="module")
def fima_run(tmp_path_factory):
    """The folder of a run as FIMA's trainer leaves it, untrained."""
    folder = tmp_path_factory.mktemp("fima")
    torch.manual_seed(0)
    sizes = {"queue": 32, "hidden": 16, "dim": 16, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    fima = FIMA(FIMAConfig(**sizes, decoder_feedforward=16))
    fima.note_for_resume({"config": plain(fima.config)})
    checkpoint = {"state_dict": fima.state_dict()}
    fima.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "last.ckpt")
    save_backbone(fima.backbone, folder / "backbone.safetensors")
    (folder / "metrics.csv").write_text("step,epoch,loss\n1,0,2.0\n2,0,1.0\n")
    (folder / "report").mkdir()
    confusion_picture(torch.eye(2).long(), ["a", "b"], folder / "report" / "own.png")
    return folder


def test_a_backbone_gets_what_its_runs_method_adds(fima_run, tmp_path):
    parts = _parts_of(fima_run)
    clip = torch.rand(1, 3, 8, 32, 32)
    backbone, _ = named_backbone(str(fima_run / "last.ckpt"))
    assert torch.equal(backbone.eval()(clip), parts.key_backbone(clip))  # the copy was made a moment ago
    assert len(parts.chapters) == 3
    assert _parts_of(tmp_path) is None


@pytest.fixture(scope="module")
def report(fima_run, tiny_shapes, tmp_path_factory):
    """Of all pictures."""
    output = tmp_path_factory.mktemp("pictures")
    argv = ["pictures", "--backbone", fima_run / "backbone.safetensors", "--data", tiny_shapes, "--output", output]
    argv += ["--workers", 0, "--clips", 2, "--shown", 3, "--no-cache", "--beside", "random"]
    assert run_commands(program.COMMANDS, "Measure.", list(map(str, argv)), "evaluate.py") == 0
    return output / "report.html"


def test_every_chapter_is_there(report):
    names = ("training", "retrieval", "tsne", "confusion", "activation", "gradcam", "motion", "foreground", "affinity")
    names += ("attention_foreground", "attention_background", "tsne_test", "similarity")
    names += ("foreground_RGB", "foreground_frame_difference")
    names += ("motion_inputs", "gradcam_pooled", "activation_beside")
    for name in names:
        assert imread(report.with_name(f"{name}.png")).std() > 0.01, name
    assert report.with_name("motion.gif").read_bytes().startswith(b"GIF89a")
    text = report.read_text()
    assert text.count("<img ") == len(names) + 2  # motion.gif, and the training's own
    assert "R@1" in text
    assert "FIMA&#x27;s mask (Eq. 6): momentum encoder" in text


def test_the_title_of_a_backbone_is_short_unless_it_is_the_others_too():
    def titles(first, second):
        beside = PictureSubject(torch.nn.Identity(), [], [], {}, name=second)
        return PictureSubject(torch.nn.Identity(), [], [], {}, name=first, beside=beside).title, beside.title

    assert titles("/far/runs/a/x.ckpt", "/far/runs/b/x.ckpt") == ("a/x.ckpt", "b/x.ckpt")
    assert titles("/old/a/x.ckpt", "/new/a/x.ckpt") == ("/old/a/x.ckpt", "a/x.ckpt")
    assert titles("random:i3d", "/new/a/x.ckpt")[0] == "random:i3d"


def test_without_a_run_what_is_the_trainings_is_left_out(tiny_shapes, tmp_path, monkeypatch):
    """And a page whose pictures hold numbers for letters says which."""
    monkeypatch.setattr(drawing, "_numbers", {"走路": 1})
    argv = ["pictures", "--backbone", "random", "--data", tiny_shapes, "--output", tmp_path, "--workers", 0]
    argv += ["--clips", 1, "--shown", 2, "--no-cache"]
    assert run_commands(program.COMMANDS, "Measure.", list(map(str, argv)), "evaluate.py") == 0
    assert not (tmp_path / "training.png").exists()
    assert not (tmp_path / "attention_foreground.png").exists()
    text = (tmp_path / "report.html").read_text()
    assert text.count("<img ") == 12
    assert "<td>#1</td><td>走路</td>" in text
    assert run_commands(program.COMMANDS, "Measure.", [*map(str, argv), "--run", "nowhere"], "evaluate.py") == 2


# Headless Chromium makes no window narrower than 500 pixels; a frame within the page has the width that it is given.
PROBE = """<!DOCTYPE html><iframe id="f" src="report.html" style="border:0;width:{width}px;height:3000px"></iframe>
<script>addEventListener("load", () => {{
  const page = document.getElementById("f").contentDocument, root = page.documentElement;
  const images = [...page.images];
  const text = [...page.querySelectorAll("p, figcaption, td")].map(e => parseFloat(getComputedStyle(e).fontSize));
  const found = {{ images: images.length, loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
    width: root.clientWidth, scroll: root.scrollWidth, smallest: Math.min(...text),
    shrunk: Math.min(...images.map(i => i.getBoundingClientRect().width / i.naturalWidth)) }};
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
}});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(report, width):
    probe = report.with_name(f"probe{width}.html")
    probe.write_text(PROBE.format(width=width))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--window-size={max(width + 40, 500)},3100", "--enable-logging=stderr", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found = json.loads(re.search(r"<pre>(\{.*\})</pre>", done.stdout)[1])
    assert "CONSOLE" not in done.stderr
    assert found["loaded"] == found["images"] == report.read_text().count("<img ")
    assert width - 20 <= found["width"] <= width  # without the scroll bar
    assert found["scroll"] <= found["width"]  # the page itself does not scroll sideways
    assert found["smallest"] >= 13
    assert found["shrunk"] > 0.55


def test_classes_by_number_get_their_names(tmp_path):
    assert class_titles(tmp_path) == {}
    (tmp_path / "classes.txt").write_text("Bend\nJump up\n")
    assert class_titles(tmp_path) == {"0": "Bend", "1": "Jump up"}
    (tmp_path / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 Archery\n")
    titles = class_titles(tmp_path)
    assert titles == {"1": "ApplyEyeMakeup", "2": "Archery"}
    videos = [Video("a", "1"), Video("b", "2")]
    assert [video.label for video in titled(videos, titles)] == ["ApplyEyeMakeup", "Archery"]
    others = [*videos, Video("c", "3")]
    assert titled(others, titles) == others
    (tmp_path / "classInd.txt").write_text("nonsense\n")
    assert class_titles(tmp_path) == {}


def test_similarities_of_clips_by_hand():
    """[V=1, K=2, C=2]: right angles, 45 degrees, and whatever the lengths are."""
    first = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    second = torch.tensor([[[1.0, 1.0], [0.0, -5.0]]])
    half = 0.5**0.5
    torch.testing.assert_close(clip_similarities(first, second), torch.tensor([[[half, 0.0], [half, -1.0]]]))
    with pytest.raises(ValueError, match=r"clip_similarities: .*must be \[V, K, C\] alike"):
        clip_similarities(first, second[:, :1])
