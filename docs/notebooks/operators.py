# %% [markdown]
# # Operators in your own loop
#
# Videos, views, flow, and a contrast against a queue, in plain PyTorch, on a CPU in seconds. Needs `pip install
# "motionops[train]"`.

# %%
import torch
from torch import nn

import motionops
from motionops.evaluation.pictures import motion_panels
from motionops.models import ProjectionHead, build_backbone
from motionops.video import moving_shapes, read_list, read_video

torch.manual_seed(0)
folder = moving_shapes.generate("shapes", train=16, test=8, progress=False)
videos = read_list(folder / "train.txt")
frames = torch.stack([read_video(video.path)[:16] for video in videos])
print(frames.shape, frames.dtype)

# %% [markdown]
# ## What moves
#
# TV-L1 flow of neighbouring frames, and MCL's motion map: how much the flow changes from place to place.

# %%
flow = motionops.clip_flow(frames[:3], scales=3)
motion = motionops.motion_map(flow)
whole = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(3, 2, 2)
names = [moving_shapes.CLASSES[int(video.label)] for video in videos[:3]]
show(motion_panels(frames[:3, 7], flow[:, 7], motion[:, 7], whole, "motion.png", names))

# %% [markdown]
# ## Two views of each video
#
# An extent says where a view lies in its video. `augment_clips` cuts by it: crop, mirror, colours and normalisation
# in one pass over the bytes.

# %%
count, size = len(frames), 32
extents = motionops.sample_extents(2 * count, frames=16, frame_count=16, scale=(0.4, 1.0))
looks = motionops.Appearance.sample(2 * count)
clips = motionops.augment_clips(
    frames.repeat(2, 1, 1, 1, 1), extents, size, looks, mean=motionops.KINETICS_MEAN, std=motionops.KINETICS_STD
)
same = motionops.soft_correspondence(extents[:count], extents[count:], (1, 2, 2), (1, 2, 2))
print(clips.shape)
print("cells of the first view, and how they spread over the second:")
print(same[0].numpy().round(2))

# %% [markdown]
# ## A step, and fourteen more
#
# The loss stores no logits; `rank` says how many of the queue's rows look more alike than the right key. Losses do
# not normalise: `ProjectionHead` does.


# %%
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = build_backbone("r3d_small")
        self.head = ProjectionHead(self.backbone.channels, 64, 32)

    def forward(self, clips):
        return self.head(self.backbone(clips).mean((2, 3, 4)))


network = Network()
keys = motionops.MomentumEncoder(network, 0.9)
queue = motionops.FeatureQueue(64, 32)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
ids = torch.arange(count)
for step in range(15):
    keys.update(network)
    query, key = network(clips[:count]), keys(clips[count:])
    loss, rank = motionops.queue_infonce(query, key, queue, query_ids=ids)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    queue.enqueue(key, ids)
    if step % 7 == 0:
        print(f"step {step}: loss {loss.item():.2f}, the right key is first for {(rank == 0).float().mean():.0%}")

# %% [markdown]
# The same with several processes, bfloat16 and a resumption: [Your own loop](../own_loop.md).
