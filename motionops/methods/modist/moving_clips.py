"""Which of a video's motion clips are used: those that move enough (Section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from motionops.methods.modist.flags import MoDistConfig
from motionops.motion.pair_motion import PairFlow, motion_of_pairs, network_input, strength


def candidate_pairs(config: MoDistConfig, videos: Sequence[Tensor], candidate: int) -> Tensor:
    """The pairs of frames of a motion clip, of the squares `[n, S, S, 3 or 1]` of B videos: uint8
    `[B, T, 2, S, S, 3 or 1]`."""
    length = 2 * config.motion_frames
    pairs = [squares[candidate * length : (candidate + 1) * length] for squares in videos]
    return torch.stack(pairs).unflatten(1, (config.motion_frames, 2))


def choose_motion(config: MoDistConfig, squares: Tensor, pair_flow: PairFlow) -> tuple[list[Tensor], Tensor, Tensor]:
    """The first two candidates of each video that are above gamma, as query and key.

    A video with one takes it for both; one with none keeps its first two and is not `moving`. Further candidates are
    computed for the videos alone that still need them.

    Args:
        squares: of the frames of the motion clips of each video, `[B, n, S, S, 3 or 1]`.
        pair_flow: makes the flow of pairs of frames.

    Returns:
        Two motion clips of each video, `[B, 3, T, S, S]` each; `moving`, bool `[B]`; and which candidates they are,
        `[B, 2]`.
    """
    c, batch = config, len(squares)
    clips: list[list[Tensor]] = [[] for _ in range(batch)]
    chosen: list[list[int]] = [[] for _ in range(batch)]
    spare: list[list[Tensor]] = [[] for _ in range(batch)]
    for candidate in range(c.motion_windows()):
        rows = [b for b in range(batch) if len(clips[b]) < 2]
        if not rows:
            break
        pairs = candidate_pairs(c, [squares[b] for b in rows], candidate)
        motion = motion_of_pairs(pairs, c.motion, pair_flow)
        passes = (strength(motion, c.motion) > c.gamma).tolist() if c.gamma else [True] * len(rows)
        for clip, b, above in zip(network_input(motion, c.motion), rows, passes, strict=True):
            if above:
                clips[b].append(clip)
                chosen[b].append(candidate)
            elif len(spare[b]) < 2:
                spare[b].append(clip)
    moving = [bool(found) for found in clips]
    for b in range(batch):
        clips[b] = (clips[b] or spare[b]) * 2
        chosen[b] = (chosen[b] or [0, 1]) * 2
    pair = [torch.stack([found[i] for found in clips]) for i in range(2)]
    return pair, torch.tensor(moving), torch.tensor([found[:2] for found in chosen])
