"""What a user writes, as type checkers read it (`make types`); a test runs what needs nothing but this library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import assert_type

import motionops
from motionops import Appearance, FeatureQueue, InfoNCE, MomentumEncoder
from motionops.evaluation import extract_features, knn_accuracy
from motionops.models import BackboneName, ProjectionHead, build_backbone, load_backbone, save_backbone
from motionops.video import Batch, RandomClips, VideoBatchSampler, VideoDataset, check_videos, collate_videos, read_list


class Network(nn.Module):
    def __init__(self, name: BackboneName) -> None:
        super().__init__()
        self.backbone = build_backbone(name)
        self.head = ProjectionHead(self.backbone.channels, 512, 128)

    def forward(self, clips: Tensor) -> Tensor:
        maps = self.backbone(clips)
        assert_type(maps, Tensor)
        embedded: Tensor = self.head(maps.movedim(1, -1))
        return embedded


def contrasts(query: Tensor, key: Tensor, maps: Tensor, extents: Tensor) -> Tensor:
    queue = FeatureQueue(64, 128, dtype=torch.bfloat16)
    assert_type(queue.features, Tensor)
    found = motionops.queue_infonce(query, key, queue, temperature=torch.tensor(0.1), query_ids=torch.arange(4))
    assert_type(found, InfoNCE)
    assert_type(found.loss, Tensor)
    loss, rank = motionops.pairwise_infonce(query, key)
    assert_type(rank, Tensor)
    regions = motionops.region_contrast(maps[:, None], maps, extents[:, None], extents, rows="overlapping")
    pixels = motionops.pixel_contrast(maps, maps, extents, extents, radius=0.7, negatives=queue.features)
    assert_type(regions, Tensor)
    assert_type(pixels, Tensor)
    weight = motionops.rank_weight(extents, extents, 4, 4)
    cells = motionops.soft_correspondence(extents, extents, (1, 4, 4), (1, 4, 4))
    queue.enqueue(key, ids=torch.arange(4))
    return found.loss + loss + weight * pixels + regions + cells.sum()


def motion(frames: Tensor, grey: np.ndarray, records: Tensor) -> list[Tensor]:
    flow = motionops.tvl1_flow(grey, grey, attachment=0.3, scales=3)
    assert_type(flow, Tensor)
    of_clip = motionops.clip_flow(frames, interval=1, warps=2)
    maps = motionops.motion_map(of_clip, grid=(1, 4, 4))
    edges = motionops.flow_edges(of_clip, max_value=10)
    difference = motionops.frame_difference(np.zeros((1, 3, 4, 8, 8), np.float32), first="repeat", dim=2)
    vectors = motionops.rasterize_motion_vectors(records, 16, 112, 112, cell=8)
    starts = motionops.motion_starts(maps.mean((2, 3))[0], span=8, count=2)
    return [flow, maps, edges, difference, vectors, starts]


def views(frames: Tensor, maps: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    extents = motionops.sample_extents(2, frames=16, frame_count=64, scale=(0.4, 1.0), generator=generator)
    moving = motionops.motion_extents(maps, frames=16, starts=[0, 4], generator=generator)
    whole = motionops.sample_extents(1, frames=64, frame_count=64, scale=(0.8, 1.0), generator=generator)
    local = motionops.local_extents(whole[0], motionops.local_starts(64, 2, frames=16), frames=16)
    assert_type(local, Tensor)
    look = Appearance.sample(2, generator=generator)
    assert_type(look[0:1], Appearance)
    mean, std = motionops.KINETICS_MEAN, motionops.KINETICS_STD
    clips = motionops.augment_clips(frames, moving, (112, 96), look.to("cpu"), mean=mean, std=std)
    plain = motionops.augment_clips([frames[0]], None, 112, mean=motionops.IMAGENET_MEAN, std=motionops.IMAGENET_STD)
    return [clips, plain, local, motionops.crop_map(maps[:, None], extents, (1, 2, 2))]


def norms(maps: Tensor) -> Tensor:
    result = motionops.ghost_batch_norm(maps, groups=[2, 2], relu=True)
    assert_type(result, motionops.GhostBatchNorm)
    return result.output


def train(folder: Path) -> None:
    videos, skipped = check_videos(read_list(folder / "train.txt"), minimum_frames=16)
    print([video.path for video in skipped])
    data = VideoDataset(videos, RandomClips(2, frames=16))
    network = Network("r3d_small")
    keys = MomentumEncoder(network, 0.99)
    batch: Batch
    for batch in DataLoader(data, batch_sampler=VideoBatchSampler(data, 4, steps=2), collate_fn=collate_videos):
        keys.update(network, motionops.cosine_momentum(0, 2))
        clip = batch.clip(0, 112, mean=motionops.KINETICS_MEAN, std=motionops.KINETICS_STD)
        assert_type(clip, Tensor)
        print(len(batch), clip.shape, batch.index)
    save_backbone(network.backbone, folder / "backbone.safetensors", method="mine")
    again = load_backbone(folder / "backbone.safetensors")
    assert_type(again.channels, int)
    features = extract_features(again, videos, frames=16, stride=1, size=32, clips=1)
    assert_type(features, Tensor)
    score = knn_accuracy(features, [0] * len(videos), features, [0] * len(videos), k=5)
    assert_type(score, float)
    print(score, motionops.has_cuda())
