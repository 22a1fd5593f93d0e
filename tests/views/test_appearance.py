"""Appearance.sample: probabilities, ranges, reproducibility, errors."""

import pickle

import pytest
import torch

from motionops.views import Appearance, augment_clips


def test_draws_have_their_probabilities_and_ranges():
    drawn = Appearance.sample(20_000, jitter=(0.4, 0.3, 1.5, 0.1), generator=torch.Generator().manual_seed(0))
    jittered = drawn.jitter[:, 0] != 1
    assert jittered.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert drawn.grayscale.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (drawn.blur_sigma > 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    bounds = [(0.6, 1.4), (0.7, 1.3), (0.0, 2.5), (-0.1, 0.1)]
    for column, (low, high) in enumerate(bounds):
        values = drawn.jitter[jittered, column]
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert torch.equal(drawn.jitter[~jittered], torch.tensor([1.0, 1, 1, 0]).expand(int((~jittered).sum()), 4))
    blurred = drawn.blur_sigma[drawn.blur_sigma > 0]
    assert blurred.min() >= 0.1
    assert blurred.max() <= 2.0
    assert torch.equal(drawn.order.sort(dim=1).values, torch.arange(4).expand(20_000, 4))
    codes = (drawn.order * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    assert torch.bincount(codes)[torch.unique(codes)].min() > 20_000 / 24 * 0.8
    assert len(torch.unique(codes)) == 24


def test_everything_about_a_clip_is_drawn_by_itself():
    """No draw says anything of another one, of the same clip or of the next; uniform values have their deviation."""
    count, strengths = 20_000, torch.tensor([0.4, 0.3, 0.2, 0.1])
    drawn = Appearance.sample(
        count,
        jitter=tuple(strengths.tolist()),
        jitter_probability=0.9,
        grayscale_probability=0.5,
        blur_probability=0.5,
        blur_sigma=(0.5, 1.5),
        generator=torch.Generator().manual_seed(0),
    )
    used = drawn.jitter[:, 0] != 1
    torch.testing.assert_close(drawn.jitter[used].std(dim=0), strengths / 3**0.5, rtol=0.03, atol=0)
    blurred = drawn.blur_sigma > 0
    assert drawn.blur_sigma[blurred].std().item() == pytest.approx(1 / 12**0.5, rel=0.03)
    places = drawn.order.argsort(dim=1)[:, :3]  # when brightness, contrast and saturation take their turn
    numbers = [drawn.jitter, drawn.jitter.square(), used[:, None], drawn.grayscale[:, None], blurred[:, None]]
    numbers = torch.cat([part.double() for part in (*numbers, drawn.blur_sigma[:, None], places)], dim=1)
    # Next to itself each clip has the one after it: 5 deviations of a correlation of independent draws are 0.035.
    table = torch.corrcoef(torch.cat([numbers[:-1], numbers[1:]], dim=1).T)
    width = numbers.shape[1]
    allowed = torch.eye(2 * width, dtype=torch.bool)
    for half in (0, width):
        factors, square, flag, blur, order = (
            torch.arange(*ends) + half for ends in ((0, 4), (4, 8), (8, 9), (10, 12), (12, 15))
        )
        allowed[factors, square] = allowed[square, factors] = True  # a value and its square
        allowed[square[3], flag] = allowed[flag, square[3]] = True  # the hue is 0 where no jitter is drawn
        allowed[blur[:, None], blur] = True
        allowed[order[:, None], order] = True  # no two take the same turn
        allowed[square[:, None], square] = allowed[square[:, None], flag] = allowed[flag, square[:, None]] = True
        allowed[factors[:, None], flag] = allowed[flag, factors[:, None]] = True
    assert table[~allowed].abs().max() < 0.035


def test_same_generator_same_draw_and_a_prefix_stays():
    def draw(batch):
        return Appearance.sample(batch, jitter_probability=0.5, generator=torch.Generator().manual_seed(3))

    assert all(torch.equal(a, b) for a, b in zip(draw(8).fields(), draw(8).fields(), strict=True))
    assert all(torch.equal(a, b[:5]) for a, b in zip(draw(5).fields(), draw(8).fields(), strict=True))


def test_neutral_and_empty():
    neutral = Appearance.neutral(3)
    assert [tuple(field.shape) for field in neutral.fields()] == [(3, 4), (3, 4), (3,), (3,)]
    assert [tuple(field.shape) for field in Appearance.sample(0).fields()] == [(0, 4), (0, 4), (0,), (0,)]
    off = Appearance.sample(50, jitter_probability=0, grayscale_probability=0, blur_probability=0)
    assert torch.equal(off.jitter, Appearance.neutral(50).jitter)
    assert not off.grayscale.any()
    assert not off.blur_sigma.any()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"jitter": (0.4, 0.4, 0.4)}, "jitter must be 4 strengths"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "the hue's <= 0.5"),
        ({"jitter": (-0.1, 0.4, 0.4, 0.1)}, "jitter must be 4 strengths >= 0"),
        ({"jitter_probability": 1.1}, r"jitter_probability must be in \[0, 1\], got 1.1"),
        ({"grayscale_probability": -1}, "grayscale_probability must be"),
        ({"blur_probability": float("nan")}, "blur_probability must be"),
        ({"blur_sigma": (0.0, 2.0)}, r"blur_sigma must be \(low, high\)"),
        ({"blur_sigma": (2.0, 1.0)}, r"blur_sigma must be \(low, high\)"),
        ({"batch": -1}, "batch must be >= 0"),
    ],
)
def test_wrong_arguments(changed, text):
    with pytest.raises(ValueError, match=f"^Appearance.sample: .*{text}"):
        Appearance.sample(**{"batch": 2, **changed})


def test_it_is_indexed_and_counted_by_clip():
    looks = Appearance.sample(5, jitter_probability=1, blur_probability=0.5)
    assert len(looks) == 5
    assert len(looks[1:4]) == 3
    mask = torch.tensor([True, False, False, True, True])
    for index in (2, -1, slice(1, 4), slice(None, None, 2), torch.tensor([3, 0]), mask):
        for name in ("jitter", "order", "grayscale", "blur_sigma"):
            assert torch.equal(getattr(looks[index], name), getattr(looks, name)[index])
    for clip, look in enumerate(looks):
        assert torch.equal(look.jitter, looks.jitter[clip])
    assert clip == 4
    views = looks[:4].map(lambda field: field.unflatten(0, (2, 2)))
    assert torch.equal(views[:, 1].order, looks.order[[1, 3]])
    with pytest.raises(IndexError):
        looks[5]


def test_it_moves_and_is_kept():
    looks = Appearance.sample(3)
    assert all(field.device.type == "meta" for field in looks.to("meta").fields())
    assert looks.to(device="cpu").jitter is looks.jitter
    again = pickle.loads(pickle.dumps(looks))
    assert all(torch.equal(a, b) for a, b in zip(again.fields(), looks.fields(), strict=True))
    leaves, tree = torch.utils._pytree.tree_flatten({"look": looks})
    assert [leaf is field for leaf, field in zip(leaves, looks.fields(), strict=True)] == [True] * 4
    assert isinstance(torch.utils._pytree.tree_unflatten(leaves, tree)["look"], Appearance)


def test_it_is_an_argument_of_what_is_compiled_and_exported():
    class Cut(torch.nn.Module):
        def forward(self, frames, looks):
            return augment_clips(frames, None, 6, looks[1:], mean=0.5, std=0.5)

    looks = Appearance.sample(3, jitter_probability=1, generator=torch.Generator().manual_seed(0))
    frames = torch.randint(256, (2, 2, 8, 9, 3), dtype=torch.uint8)
    expected = Cut()(frames, looks)
    compiled = torch.compile(Cut(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(frames, looks), expected, rtol=0, atol=0)
    program = torch.export.export(Cut(), (frames, looks))
    torch.testing.assert_close(program.module()(frames, looks), expected, rtol=0, atol=0)
