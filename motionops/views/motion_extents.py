"""Views where the motion is: MCL's temporal and spatial sampling (Li et al. 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from motionops.arrays import as_tensor
from motionops.scalars import check_scalars, is_whole
from motionops.views.extents import sample_extents
from motionops.views.host import on_the_cpu

FORMS = ("paper", "released")
RELEASED_GRID = 7  # the released code looks at motion on 7 x 7 cells
RELEASED_AREAS = (4, 8, 12)  # cells of the moving rectangle: up to each a tenth less of it must be covered
PAPER_TRIES, RELEASED_TRIES = 100, 40
RELEASED_PROBABILITY = 0.7  # that code's in time; in space it is always 1
HALVINGS = 24  # of the interval in which a box is stretched: to the resolution of float32
ROUNDING = 1e-6  # a share that rounding took below what was asked for


@on_the_cpu
def motion_extents(
    motion_grid: Tensor,
    *,
    frames: int,
    starts: Tensor | Sequence[int],
    stride: int = 1,
    height: int = 1,
    width: int = 1,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    mirror: float = 0.5,
    quantile: float = 0.9,
    coverage: float = 0.8,
    form: str = "paper",
    probability: float | None = None,
    tries: int | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Draw views that hold what moves: MCL's motion-focused spatial cropping (Li et al. 2021, section 3.2).

    ``form="paper"``: a cell is moving where its motion is above the ``quantile`` of its map; the view is a
    random box of :func:`sample_extents` under the condition that it covers at least ``coverage`` of the moving cells
    (cells in part count in part). Where none of ``tries`` boxes does, the one that covers most is stretched towards
    the whole picture until it does: coverage goes before ``scale`` and ``ratio``.

    ``form="released"``: as in the authors' code, the map is averaged to 7 × 7 cells, and the rectangle around the
    strongest of them (a share of 1 - ``quantile``: 4 of 49) is to be covered: ``coverage`` + 0.1 of its area where it
    has up to 4 cells, ``coverage`` up to 8, ``coverage`` - 0.1 up to 12, nothing above. One size is drawn and up to
    ``tries`` places for it; without success the best of them stays.

    A map that is the same everywhere, zero or not, tells nothing: its view is what ``sample_extents`` draws.

    Args:
        motion_grid: S-motion of the clips ``[B, h, w]``, or ``[B, t, h, w]``, which is averaged over t; any
            resolution, cells fill the picture evenly; floating, finite.
        frames, stride, height, width, scale, ratio, mirror: as in :func:`sample_extents`.
        starts: int64 ``[B]`` (or a sequence of integers), the clips' first frames, >= 0.
        quantile: share in [0, 1) of the map above whose value a cell is moving.
        coverage: share in [0, 1] of what moves that a view holds.
        form: ``"paper"`` or ``"released"``.
        probability: with which a view looks at motion at all, else it is uniform; by default 1 in the paper's form and
            0.7 in the released one. (The authors' code draws with 0.7 whether it looks at motion in time, and crops
            by motion always: pass 1 for that.)
        tries: boxes (places, in the released form) that are drawn; by default 100 and 40.
        generator: on the CPU; or one for each clip, so that its draw does not depend on the batch; without it
            torch's own.

    Returns:
        Extents, float32 ``[B, 3, 2]`` on the CPU, as :func:`sample_extents` gives them: rows (t, y, x), columns
        (start, end); x runs backwards where mirrored.

    Raises:
        TypeError: ``motion_grid`` or ``starts`` is of a wrong type.
        ValueError: a shape, range or count that does not fit, motion that is not finite; the text says what was
            expected and what was given.
    """
    grid, starts, probability, tries = _check(
        motion_grid, starts, quantile, coverage, form, probability, tries, generator
    )
    quantile, coverage = float(quantile), float(coverage)
    generators = generator if isinstance(generator, Sequence) else [generator] * len(grid)
    check_scalars("motion_extents", whole={"frames": frames, "stride": stride})
    frames, stride = int(frames), int(stride)
    options = {"frames": frames, "stride": stride, "height": height, "width": width}
    options |= {"scale": scale, "ratio": ratio, "mirror": mirror}
    if not len(grid):
        return sample_extents(0, frame_count=(frames - 1) * stride + 1, **options)
    choose = _paper_view if form == "paper" else _released_view
    views = []
    for motion, start, own in zip(grid, starts.tolist(), generators, strict=True):
        focused = float(torch.rand((), generator=own, dtype=torch.float64)) < probability
        views.append(choose(motion, start, focused, quantile, coverage, tries, own, options))
    return torch.stack(views)


@on_the_cpu
def motion_starts(
    frame_motion: Tensor, *, span: int, count: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Draw start frames of clips that move: MCL's temporal sampling (Li et al. 2021, section 3.2).

    A candidate is every clip of ``span`` consecutive frames; its motion is the mean of theirs. Starts are uniform over
    the candidates above the median of all; over those at the median where none is above it (a video without motion:
    all of them).

    Args:
        frame_motion: T-motion ``[F]`` of the video's frames; floating, finite.
        span: source frames from the first to the last of a clip, both counted.
        count: how many starts are drawn, independently.
        generator: on the CPU; without it torch's own.

    Returns:
        int64 ``[count]``, each in [0, F - span].

    Raises:
        TypeError: ``frame_motion`` is not floating.
        ValueError: a wrong shape or count, fewer frames than ``span``, motion that is not finite.
    """
    op = "motion_starts"
    motion = _finite(op, "frame_motion", frame_motion)
    if motion.ndim != 1:
        raise ValueError(f"{op}: frame_motion must be [F], got {list(motion.shape)}")
    span, count = _integer(op, "span", span, 1), _integer(op, "count", count, 0)
    if len(motion) < span:
        raise ValueError(f"{op}: frame_motion must have at least span={span} frames, got {len(motion)}")
    candidates = motion.unfold(0, span, 1).mean(dim=1)
    median = candidates.quantile(0.5)
    chosen = (candidates > median).nonzero()[:, 0]
    if not len(chosen):
        chosen = (candidates >= median).nonzero()[:, 0]
    draws = torch.rand(count, generator=generator, dtype=torch.float64)
    return chosen[(draws * len(chosen)).long().clamp_(max=len(chosen) - 1)]


def _paper_view(motion, start, focused, quantile, coverage, tries, generator, options) -> Tensor:
    """The first of ``tries`` uniform views that covers enough, or the best one stretched; ``[3, 2]``."""
    views = _uniform(tries, start, generator, options)
    moving = motion > motion.flatten().quantile(quantile)
    if not focused or not bool(moving.any()):
        return views[0]
    covered = _covered(views[:, 1:].double().sort(dim=-1).values, moving.double())
    enough = covered >= coverage - ROUNDING
    if bool(enough.any()):
        return views[int(enough.to(torch.int8).argmax())]
    view = views[int(covered.argmax())]
    mirrored = bool(view[2, 0] > view[2, 1])
    box = view[1:].double().sort(dim=-1).values
    whole = torch.tensor([0.0, 1.0], dtype=torch.float64)
    low, high = 0.0, 1.0  # the whole picture covers everything
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _covered(torch.lerp(box, whole, middle)[None], moving.double()) >= coverage:
            high = middle
        else:
            low = middle
    box = torch.lerp(box, whole, high)
    view[1] = box[0]
    view[2] = box[1].flip(0) if mirrored else box[1]
    return view


def _released_view(motion, start, focused, quantile, coverage, tries, generator, options) -> Tensor:
    """One uniform size, the first of ``tries`` places of it that covers enough, or the best; ``[3, 2]``."""
    view = _uniform(1, start, generator, options)[0]
    places = torch.rand(tries - 1, 2, generator=generator, dtype=torch.float64)
    cells = functional.adaptive_avg_pool2d(motion[None], [min(RELEASED_GRID, side) for side in motion.shape])[0]
    order = cells.flatten().argsort(descending=True, stable=True)
    strongest = order[: max(1, int((1 - quantile) * cells.numel() + ROUNDING))]
    strongest = strongest[cells.flatten()[strongest] > cells.min()]
    if not focused or not len(strongest):
        return view
    corners = torch.stack([strongest // cells.shape[1], strongest % cells.shape[1]])
    low, high = corners.min(dim=1).values, corners.max(dim=1).values + 1
    size = int((high - low).prod())
    wanted = next((coverage + 0.1 - 0.1 * step for step, most in enumerate(RELEASED_AREAS) if size <= most), 0.0)
    first = view[1:].double().sort(dim=-1).values  # [2, 2]
    sides = first[:, 1] - first[:, 0]
    begin = torch.cat([first[None, :, 0], places * (1 - sides)])  # [tries, 2]
    edges = torch.tensor(cells.shape, dtype=torch.float64)
    overlap = torch.minimum(begin + sides, high / edges) - torch.maximum(begin, low / edges)
    covered = (overlap.clamp(min=0) / ((high - low) / edges)).prod(dim=1)
    enough = covered >= wanted - ROUNDING
    best = int((enough.to(torch.int8) if bool(enough.any()) else covered).argmax())
    box = torch.stack([begin[best], begin[best] + sides], dim=1)
    mirrored = bool(view[2, 0] > view[2, 1])
    view[1] = box[0]
    view[2] = box[1].flip(0) if mirrored else box[1]
    return view


def _uniform(count: int, start: int, generator: torch.Generator | None, options: dict[str, Any]) -> Tensor:
    """Views of one clip, ``[count, 3, 2]``."""
    span = (options["frames"] - 1) * options["stride"] + 1
    starts = torch.full((count,), start)
    return sample_extents(count, frame_count=start + span, starts=starts, generator=generator, **options)


def _covered(boxes: Tensor, moving: Tensor) -> Tensor:
    """Share of the moving cells ``[h, w]`` that lies in each of the boxes ``[n, 2, 2]``, rows (y, x)."""
    shares = []
    for axis, cells in enumerate(moving.shape):
        edges = torch.arange(cells + 1, dtype=torch.float64) / cells
        start, end = boxes[:, axis, :1], boxes[:, axis, 1:]
        overlap = torch.minimum(end, edges[1:]) - torch.maximum(start, edges[:-1])
        shares.append(overlap.clamp(min=0) * cells)
    rows, columns = shares
    return ((rows @ moving) * columns).sum(dim=1) / moving.sum()


def _check(motion_grid, starts, quantile, coverage, form, probability, tries, generator):
    op = "motion_extents"
    if form not in FORMS:
        raise ValueError(f'{op}: form must be "paper" or "released", got {form!r}')
    grid = _finite(op, "motion_grid", motion_grid)
    if grid.ndim not in (3, 4) or 0 in grid.shape[1:]:
        raise ValueError(
            f"{op}: motion_grid must be [B, h, w] or [B, t, h, w] with t, h, w >= 1, got {list(motion_grid.shape)}"
        )
    if grid.ndim == 4:
        grid = grid.mean(dim=1)
    try:
        starts = torch.as_tensor(starts).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{op}: starts must be integers [B={len(grid)}], got {type(starts).__name__}") from None
    if starts.is_floating_point() or starts.is_complex() or starts.dtype == torch.bool:
        if starts.numel():
            raise TypeError(f"{op}: starts must be integers [B={len(grid)}], got {starts.dtype}")
        starts = starts.long()
    if starts.shape != (len(grid),) or bool((starts < 0).any()):
        raise ValueError(f"{op}: starts must be [B={len(grid)}] and >= 0, got {starts.tolist()}")
    for name, value in (("quantile", quantile), ("coverage", coverage), ("probability", probability)):
        if name != "probability" or value is not None:
            check_scalars(op, real={name: value})
    quantile, coverage = float(quantile), float(coverage)
    if not 0 <= quantile < 1:
        raise ValueError(f"{op}: quantile must be in [0, 1), got {quantile}")
    if not 0 <= coverage <= 1:
        raise ValueError(f"{op}: coverage must be in [0, 1], got {coverage}")
    if probability is None:
        probability = 1.0 if form == "paper" else RELEASED_PROBABILITY
    probability = float(probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"{op}: probability must be in [0, 1], got {probability}")
    if tries is None:
        tries = PAPER_TRIES if form == "paper" else RELEASED_TRIES
    tries = _integer(op, "tries", tries, 1)
    own = generator if isinstance(generator, Sequence) else [generator]
    if not all(value is None or isinstance(value, torch.Generator) for value in own):
        raise TypeError(f"{op}: generator must be a torch.Generator or a sequence of B, got {generator!r}")
    if isinstance(generator, Sequence) and len(generator) != len(grid):
        raise ValueError(f"{op}: generator must be one or a sequence of B={len(grid)}, got {len(generator)}")
    return grid, starts, probability, tries


def _finite(op: str, name: str, value: Any) -> Tensor:
    """The motion in float64 on the CPU, where the draws are made."""
    motion = as_tensor(op, name, value)
    if not motion.is_floating_point():
        raise TypeError(f"{op}: {name} must be floating, got {motion.dtype}")
    if motion.is_meta:
        raise ValueError(f"{op}: {name} must hold values, got a tensor on meta")
    motion = motion.detach().to("cpu", torch.float64)
    if not bool(motion.isfinite().all()):
        raise ValueError(f"{op}: {name} must be finite, got NaN or infinity")
    return motion


def _integer(op: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not is_whole(value) or int(value) < least:
        raise ValueError(f"{op}: {name} must be an integer >= {least}, got {value!r}")
    return int(value)
