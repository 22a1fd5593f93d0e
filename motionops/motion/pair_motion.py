"""What MoDist's motion pathway sees: flow edges, flow or frame differences of pairs of frames, and how strong they are.

Pictures are first cut to their centre square and resampled to the size of the clips; the motion is that of the small
pictures, in their pixels. Prepared edges (`motionops.motion.EdgesFolder`) are made by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import motionops
from motionops.errors import UserError
from motionops.motion.edges_folder import EDGE_MAX
from motionops.video.readers.squares import brightness

PairFlow = Callable[[Tensor], Tensor]

# What becomes 1 in the network's input: the largest edge, pixels of flow, the difference of black and white.
RANGES = {"flow-edges": EDGE_MAX, "flow": 10.0, "frame-difference": 1.0}
RAFT_CHUNK = 16  # pairs in one forward pass of RAFT
RAFT_SMALLEST, RAFT_MULTIPLE = 128, 8  # RAFT's correlation pyramid needs pictures of at least 16 cells of 8 pixels


def tvl1_pairs(pairs: Tensor) -> Tensor:
    """TV-L1 flow from the later to the earlier frame of each pair: uint8 `[N, 2, S, S, 3 or 1]` -> `[N, 2, S, S]`."""
    earlier, later = brightness(pairs).unbind(1)
    return motionops.tvl1_flow(later, earlier)


class RAFTPairs:
    """RAFT's flow from the later to the earlier frame of each pair: uint8 `[N, 2, S, S, 3]` -> `[N, 2, S, S]`.

    Torchvision's `raft_large` trained on FlyingChairs and FlyingThings (C_T), the "RAFT-things" of MoDist's Section
    4.1. It is no part of a module: it is neither trained nor saved.

    Args:
        weights: a file of its weights; None looks in torch's hub cache.

    Raises:
        UserError: no such file; the text names the address to download and the place to put it.
    """

    def __init__(self, weights: Path | None = None) -> None:
        from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

        self.network = raft_large(weights=None).eval().requires_grad_(False)
        file = raft_file(weights)
        try:
            self.network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:
            name = Raft_Large_Weights.C_T_V2.url.rsplit("/", 1)[1]
            raise UserError(f"--raft-weights: {file} does not hold the weights of raft_large as in {name}") from error

    @torch.no_grad()
    def __call__(self, pairs: Tensor) -> Tensor:
        self.network.to(pairs.device)
        pictures = pairs.permute(0, 1, 4, 2, 3)
        flows = []
        for part in pictures.split(RAFT_CHUNK):
            earlier, later = (part.float() / 127.5 - 1).unbind(1)
            flows.append(self.network(later, earlier)[-1])
        return torch.cat(flows) if flows else pairs.new_zeros((0, 2, *pairs.shape[2:4]), dtype=torch.float32)


def raft_file(weights: Path | None = None) -> Path:
    """The file of RAFT's weights: `weights`, or in torch's hub cache. UserError where it is not there."""
    from torchvision.models.optical_flow import Raft_Large_Weights

    known = (Raft_Large_Weights.C_T_V2, Raft_Large_Weights.C_T_V1)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    places = [weights] if weights is not None else [folder / entry.url.rsplit("/", 1)[1] for entry in known]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"--flow raft: there is no {places[0]}; download {known[0].url} and put it there (or name it: --raft-weights)"
    )


def check_raft_size(size: int) -> None:
    """UserError for a --size that RAFT cannot take."""
    if size < RAFT_SMALLEST or size % RAFT_MULTIPLE:
        raise UserError(
            f"--flow raft: --size must be a multiple of {RAFT_MULTIPLE} and at least {RAFT_SMALLEST}, got {size}"
        )


def motion_of_pairs(pairs: Tensor, kind: str, flow: PairFlow) -> Tensor:
    """The motion input at each pair of frames.

    Args:
        pairs: uint8 `[B, T, 2, S, S, 3]`, (earlier, later); grey ones, `[..., 1]`, where `flow` takes such.
        kind: "flow-edges": Sobel edges of the flow's magnitude, clamped to 10 (MoDist, Sections 3.2 and 4.1);
            "flow": u, v and the magnitude in pixels; "frame-difference": later - earlier, in -1..1.
        flow: makes the flow of pairs `[N, 2, S, S, 3]`.

    Returns:
        float32 `[B, C, T, S, S]`, C = 1 for edges, else 3.
    """
    batch, count = pairs.shape[:2]
    if kind == "frame-difference":
        clip = pairs.permute(0, 5, 1, 2, 3, 4).float() / 255
        return clip[:, :, :, 1] - clip[:, :, :, 0]
    vectors = flow(pairs.flatten(0, 1)).float()
    if kind == "flow-edges":
        return motionops.flow_edges(vectors.unflatten(0, (batch, count)), max_value=EDGE_MAX)[:, None]
    magnitude = vectors.square().sum(dim=1, keepdim=True).sqrt()
    return torch.cat([vectors, magnitude], dim=1).unflatten(0, (batch, count)).transpose(1, 2)


def strength(motion: Tensor, kind: str) -> Tensor:
    """What gamma is compared with, `[B, C, T, S, S] -> [B]`: the mean over a clip's pixels (MoDist, Section 3.1), as a
    share of the input's range (`RANGES`): of edges, of the flow's magnitude, or of the absolute difference.
    """
    values = {"flow-edges": motion, "flow": motion[:, 2:], "frame-difference": motion.abs()}[kind]
    return values.mean(dim=(1, 2, 3, 4)) / RANGES[kind]


def network_input(motion: Tensor, kind: str) -> Tensor:
    """`[B, C, T, S, S]` as the motion pathway takes it, `[B, 3, T, S, S]`, about -1..1; edges are repeated."""
    return (motion / RANGES[kind]).expand(-1, 3, -1, -1, -1).contiguous()
