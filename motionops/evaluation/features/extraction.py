"""Features of whole videos: the mean over uniformly spaced clips of a frozen backbone's pooled feature map."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.feature_cache import FeatureCache
from motionops.evaluation.features.together import machine, of_all_ranks, raise_in_all
from motionops.evaluation.features.video_clips import ClipViews, VideoClips, in_batches
from motionops.ranks import world
from motionops.video import Skipped, Video
from motionops.video.dataset import start_worker
from motionops.video.progress import with_progress
from motionops.video.readers.shared_memory import listed, shortage

# Seconds from one write of the cache to the next: what a killed extraction may lose.
_WRITE_EVERY = 2.0

PRECISIONS = ("32", "bf16-mixed")


def extract_features(
    backbone: nn.Module,
    videos: Sequence[Video],
    *,
    clips: int = 10,
    frames: int | None = None,
    stride: int | None = None,
    size: int | None = None,
    crop: float | None = None,
    crops: int = 1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    still: bool = False,
    shuffle_frames: bool = False,
    seed: int = 0,
    short: str = "skip",
    sampling: str = "clips",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    precision: str = "32",
    cache: str | os.PathLike | None = None,
    over_ranks: bool = False,
    progress: bool = False,
    skipped: list[Skipped] | None = None,
) -> Tensor:
    """One feature a video: clip feature maps averaged over time and space, then over the clips.

    Args:
        backbone: ``clip [B, 3, T, S, S] -> [B, C, T', H', W']`` (or ``[B, C]``). It runs in eval mode, so BatchNorm
            uses its running statistics; its mode is restored.
        videos: what to read, in order.
        clips: clips a video; their starts are spread evenly from the first frame to the last possible start, and one
            clip lies in the middle.
        frames, stride: frames a clip and source frames from one to the next.
        size: S; the centre square with ``crop`` times the short side is resampled to it.
        crops: squares a clip: 1, the centre; or more, spread evenly along the long side, centred on the short one (3
            with ``crop`` 1: the left, middle and right of a wide picture, as SlowFast tests).
        mean, std: per-channel normalisation of values in 0..1; those of the training.
            Of frames, stride, size, crop, mean and std, those that are not given are what the backbone's file said
            (``backbone.clip_settings``, of :func:`motionops.models.load_backbone`), else 16, 2, 112, 0.875, and
            Kinetics' mean and std.
        still: repeat the middle frame of each clip, so that nothing moves.
        shuffle_frames: put the frames of each clip in a random order, which depends on ``seed`` and the place of
            the video in ``videos`` alone.
        short: what becomes of a video that is shorter than a clip: "skip", it cannot be used; "hold", its last frame
            is repeated.
        sampling: "clips" of frames with the stride; "segments" takes one frame of each of ``frames`` equal segments of
            the whole video, as is usual on Something-Something, and looks at no stride. ``clips`` is then 1.
        batch_size: clips in one forward pass.
        workers: processes that decode; 0 decodes in this one.
        device: where the backbone runs; by default where its parameters are.
        precision: "32", or "bf16-mixed" for autocast to bfloat16.
        cache: folder in which the features are kept by backbone, sampling and content of the video, and found again
            (:mod:`motionops.evaluation.features.feature_cache`). None keeps nothing, and so does ``shuffle_frames``:
            there a feature also depends on the place of the video.
        over_ranks: all ranks of a process group call, with the same backbone and videos, and each computes its part:
            ``videos[rank::world]``. The first rank gets the features of all; the others get none, and an empty list of
            skipped ones.
        progress: show a bar, in the first rank.
        skipped: a list to which videos that cannot be used are appended, with the reason; they get no row. Without
            it the first such video is an error.

    Returns:
        float32 ``[N, C]`` on the CPU, one row for each usable video, in order.

    Raises:
        ValueError: a setting out of range.
        UserError: a video that is missing, unreadable or shorter than a clip, where ``skipped`` is not given.
    """
    given = {"frames": frames, "stride": stride, "size": size, "crop": crop, "mean": mean, "std": std}
    of_file = {name: value for name, value in getattr(backbone, "clip_settings", {}).items() if name in given}
    said = {**of_file, **{name: value for name, value in given.items() if value is not None}}
    if "crop" in said:
        said["crop"] = float(said["crop"])
    for name in {"mean", "std"} & said.keys():
        said[name] = tuple(float(value) for value in said[name])
    recipe = ClipRecipe(clips=clips, crops=crops, still=still, short=short, sampling=sampling, **said)
    recipe.check("extract_features")
    _check_settings(batch_size, workers, precision)
    rank, ranks = world() if over_ranks else (0, 1)
    store, known = None, {}
    own = range(rank, len(videos), ranks)
    if cache is not None and not shuffle_frames:
        settings = {**recipe.settings(), "precision": precision}
        store = FeatureCache(cache, backbone, settings, machine() if over_ranks else 0)
        known = store.read([videos[place].path for place in own])
    rows: dict[int, Tensor | str | None] = {place: known.get(videos[place].path) for place in own}
    missing = [place for place, row in rows.items() if row is None]
    source = VideoClips([videos[place] for place in missing], recipe, shuffle_frames, seed, missing)
    together, readers = max(1, batch_size // (clips * crops)), min(workers, len(missing))
    if line := shortage(together * clips * crops * 3 * recipe.frames * recipe.size**2 * 4, readers):  # float32
        warn(line)
    loader = DataLoader(
        source,
        batch_size=together,
        num_workers=readers,
        worker_init_fn=start_worker,
        collate_fn=listed,
    )
    if device is None:
        parameter = next(backbone.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
    was_training = backbone.training
    backbone.eval()
    try:
        results = _video_features(backbone, loader, recipe, batch_size, torch.device(device), precision)
        results = with_progress(results, len(missing), "features", progress and rank == 0 and bool(missing))
        kept = _kept([videos[place].path for place in missing], results, store)
        for place, result in zip(missing, kept, strict=True):
            rows[place] = result
            if skipped is None and not isinstance(result, Tensor):
                break
    finally:
        backbone.train(was_training)
    rows = of_all_ranks(rows, ranks)
    unusable = [Skipped(videos[place].path, row) for place, row in rows.items() if isinstance(row, str)]
    error = UserError(str(unusable[0])) if skipped is None and unusable else None
    if over_ranks:
        raise_in_all(error)
    elif error is not None:
        raise error
    if skipped is not None:
        skipped += unusable
    usable = [row for row in rows.values() if isinstance(row, Tensor)]
    return torch.stack(usable) if usable else torch.empty(0, getattr(backbone, "channels", 0))


def _kept(paths: Sequence[str], results: Iterator[Tensor | str], store: FeatureCache | None) -> Iterator[Tensor | str]:
    """The results of these videos; the features among them go into the store, at the latest when the results end."""
    fresh: dict[str, Tensor] = {}
    written = time.monotonic()
    try:
        for path, result in zip(paths, results, strict=True):
            if store is not None and isinstance(result, Tensor):
                fresh[path] = result
                if time.monotonic() - written > _WRITE_EVERY:
                    store.write(fresh)
                    fresh, written = {}, time.monotonic()
            yield result
    finally:
        if store is not None:
            store.write(fresh)


def _video_features(
    backbone: nn.Module, loader: DataLoader, recipe: ClipRecipe, batch_size: int, device: torch.device, precision: str
) -> Iterator[Tensor | str]:
    """For each video its feature ``[C]`` on the CPU, or the reason why it has none."""
    for batch in loader:
        usable = [item.to(device) for item in batch if isinstance(item, ClipViews)]
        features: Iterator[Tensor] = iter(())
        if usable:
            autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")
            with torch.inference_mode(), autocast:
                maps = [backbone(part) for part in in_batches(usable, recipe, batch_size)]
                pooled = torch.cat([m.float().flatten(2).mean(dim=2) if m.ndim > 2 else m.float() for m in maps])
                each = pooled.split([len(item) for item in usable])
                means = [item.spread(own).mean(dim=0) for item, own in zip(usable, each, strict=True)]
            # clone: a tensor of inference mode cannot enter autograd later, where a user may fit a classifier on it.
            features = iter(torch.stack(means).cpu().clone())
        for item in batch:
            yield next(features) if isinstance(item, ClipViews) else item


def _check_settings(batch_size: int, workers: int, precision: str) -> None:
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
        if value < least:
            raise ValueError(f"extract_features: {name} must be at least {least}, got {value}")
    if precision not in PRECISIONS:
        raise ValueError(f"extract_features: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
