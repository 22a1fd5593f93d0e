"""The card of augment_clips."""

from dataclasses import replace

import torch

from motionops.views import Appearance, augment_clips_reference, sample_extents
from tests.operators.card import Card

NEUTRAL = Appearance.neutral(2)
WRONG = [
    (
        {"frames": torch.zeros(2, 4, 8, 8, 3)},
        TypeError,
        r"frames must be uint8 \[B, T, H, W, 3\], got torch.float32",
    ),
    ({"frames": torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8)}, ValueError, r"got \[2, 4, 3, 8, 8\]"),
    ({"frames": torch.zeros(4, 8, 8, 3, dtype=torch.uint8)}, ValueError, r"frames must be \[B, T, H, W, 3\]"),
    ({"frames": torch.zeros(2, 4, 0, 8, 3, dtype=torch.uint8)}, ValueError, "H >= 1"),
    ({"frames": 3}, TypeError, "frames must be a tensor or an array .*, got "),
    (
        {"frames": [torch.zeros(t, 8, 8, 3, dtype=torch.uint8) for t in (4, 5)]},
        ValueError,
        r"frames\[1\] must be \[T=4, H, W, 3\] like frames\[0\], got \[5, 8, 8, 3\]",
    ),
    ({"frames": [torch.zeros(4, 8, 8, 3)] * 2}, TypeError, r"frames\[0\] must be uint8"),
    ({"extents": torch.zeros(3, 3, 2)}, ValueError, r"extents must be \[B=2, 3, 2\], got \[3, 3, 2\]"),
    ({"extents": torch.zeros(2, 3, 2, dtype=torch.int64)}, TypeError, "extents must be floating"),
    ({"extents": torch.full((2, 3, 2), float("nan"))}, ValueError, "extents must be finite"),
    ({"extents": torch.full((2, 3, 2), float("inf"))}, ValueError, "extents must be finite"),
    ({"extents": torch.full((2, 3, 2), 1e300, dtype=torch.float64)}, ValueError, "extents must be finite"),
    ({"extents": torch.zeros(2, 3, 2, device="meta")}, ValueError, "extents must be on cpu"),
    ({"size": 0}, ValueError, r"size must be an integer >= 1, or two \(height, width\), got 0"),
    ({"size": 8.0}, ValueError, "size must be an integer >= 1, .*, got 8.0"),
    ({"size": (8, 0)}, ValueError, r"size must be .*, got \(8, 0\)"),
    ({"size": (8, 8, 8)}, ValueError, r"size must be .*, got \(8, 8, 8\)"),
    ({"dtype": torch.int32}, TypeError, "dtype must be a floating type, got torch.int32"),
    ({"appearance": {}}, TypeError, "appearance must be an Appearance or None, got dict"),
    ({"appearance": Appearance.neutral(3)}, ValueError, r"appearance.jitter must be \[B=2, 4\], got \[3, 4\]"),
    ({"appearance": replace(NEUTRAL, order=torch.zeros(2, 4).long())}, ValueError, "order must hold a permutation"),
    (
        {"appearance": replace(NEUTRAL, jitter=NEUTRAL.jitter - 2)},
        ValueError,
        "jitter must be three finite factors",
    ),
    ({"appearance": replace(NEUTRAL, jitter=NEUTRAL.jitter * float("nan"))}, ValueError, "jitter must be three"),
    ({"appearance": replace(NEUTRAL, jitter=NEUTRAL.order)}, TypeError, "jitter must be floating"),
    ({"appearance": replace(NEUTRAL, grayscale=torch.zeros(2))}, TypeError, "grayscale must be bool"),
    ({"appearance": replace(NEUTRAL, blur_sigma=-torch.ones(2))}, ValueError, "blur_sigma must be finite and >= 0"),
    ({"appearance": replace(NEUTRAL, blur_sigma=torch.ones(3))}, ValueError, r"blur_sigma must be \[B=2\]"),
    ({"appearance": replace(NEUTRAL, order=NEUTRAL.order.to("meta"))}, ValueError, "order must be on cpu"),
    ({"mean": (0.1, 0.2)}, ValueError, "mean must be one or 3 finite numbers"),
    ({"mean": None}, TypeError, "mean must be one or 3 numbers, got None"),
    ({"std": "wide"}, TypeError, "std must be one or 3 numbers, got 'wide'"),
    ({"std": 0.0}, ValueError, "std must be > 0"),
    ({"std": float("nan")}, ValueError, "std must be one or 3 finite numbers"),
    ({"blur_kernel": 4}, ValueError, "blur_kernel must be odd"),
    ({"blur_kernel": 17}, ValueError, r"< 2 \* size = 16, got 17"),
]


def right():
    return {
        "frames": torch.zeros(2, 4, 8, 8, 3, dtype=torch.uint8),
        "extents": torch.tensor([[0.0, 4.0], [0.0, 1.0], [0.0, 1.0]]).expand(2, 3, 2),
        "size": 8,
        "appearance": NEUTRAL,
        "mean": 0.5,
        "std": 0.2,
    }


def sample(*shapes, size=6, appearance=True, **options):
    """Clips of videos of one shape `[B, T, H, W]`, or a list of those of several."""

    def arguments(seed):
        generator = torch.Generator().manual_seed(seed)
        frames = [torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=generator) for shape in shapes]
        batch = len(frames) if len(frames) > 1 else len(frames[0])
        extents = sample_extents(batch, frames=3, frame_count=3, generator=generator)
        look = Appearance.sample(batch, jitter_probability=1, blur_probability=0.5, generator=generator)
        return {
            "frames": frames if len(frames) > 1 else frames[0],
            "extents": extents,
            "size": size,
            "appearance": look if appearance else None,
            "mean": (0.4, 0.5, 0.6),
            "std": (0.2, 0.25, 0.3),
            **options,
        }

    return arguments


CARD = Card(
    op="augment_clips",
    reference=augment_clips_reference,
    samples={
        "batch": sample((2, 3, 9, 14), difference=True),
        "list": sample((3, 9, 14), (3, 6, 5), difference=True),
        "crops alone": sample((2, 3, 9, 14), appearance=False, dtype=torch.bfloat16),
        "height and width": sample((2, 3, 9, 14), size=(5, 8)),
    },
    large={"large": sample((6, 5, 20, 26), size=18, difference=True)},
    types=(torch.float32,),
    near=lambda dtype: {"rtol": 0, "atol": 2e-4},
    alike=lambda dtype: {"rtol": 0, "atol": 1e-3},
    right=right,
    wrong=WRONG,
    looks_at_values_on_cuda=False,
    compiler="inductor",
)
