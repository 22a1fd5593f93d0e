"""What the networks of a step compute and move, counted from their shapes: the least that a step's networks can take.

    python -m benchmarks.step_model

prints the Markdown tables of docs/scale.md, of the five trainers at their papers' presets. Heads, decoders, losses,
augmentation, flow and the optimiser are left out.

Operations are torch's own count (FlopCounterMode) of a forward and a backward pass of one clip on the meta device, two
for a product and its sum. Bytes are those of convolutions' outputs in bfloat16, BatchNorm being computed by itself.
Forward, the convolution writes, BatchNorm reads twice (statistics, then values) and writes, and the next convolution
reads. Backward, BatchNorm reads its input and its output's gradient twice each and writes a gradient, which the
convolution's two passes read; one of them reads its input, too, and the other writes the input's gradient. Weights are
small beside that.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from motionops.models import build_backbone, finer_in_time

PRESETS = {
    "fima": "ucf101",
    "mcl": "ucf101",
    "modist": "kinetics400",
    "controllable": "ucf101",
    "context_motion": "ucf101",
}

ELEMENT = 2  # bytes, of bfloat16
# Times that the elements of a convolution's output are moved.
FORWARD, BACKWARD = 5, 9

# Of a card whose large bfloat16 matrix products reach 726 TFLOP/s: what convolutions are taken to reach, and bytes/s of
# its memory.
OPERATIONS_PER_SECOND = 400e12
BYTES_PER_SECOND = 3.0e12


@dataclass(frozen=True)
class Call:
    """Clips of one shape that a network sees in a step.

    Attributes:
        network: its name, of `build_backbone`.
        clips: of each video.
        shape: `(C, T, H, W)` of a clip.
        trained: whether there is a backward pass; a momentum copy has none.
        finer: `finer_in_time`'s factor.
    """

    network: str
    clips: int
    shape: tuple[int, int, int, int]
    trained: bool
    finer: int = 1


@dataclass(frozen=True)
class Cost:
    """Operations and bytes of one clip."""

    forward_operations: int
    backward_operations: int
    outputs: int  # elements of all convolutions' outputs

    def passes(self, trained: bool) -> list[tuple[int, int]]:
        """(operations, bytes) of the forward pass and, if there is one, the backward pass."""
        passes = [(self.forward_operations, FORWARD * ELEMENT * self.outputs)]
        return passes + ([(self.backward_operations, BACKWARD * ELEMENT * self.outputs)] if trained else [])

    def seconds(self, trained: bool) -> float:
        """Of one clip: each pass as long as its operations or its bytes need, whichever is more."""
        passes = self.passes(trained)
        return sum(max(done / OPERATIONS_PER_SECOND, moved / BYTES_PER_SECOND) for done, moved in passes)


def cost(call: Call) -> Cost:
    """Count one clip of a call."""
    outputs = []
    with torch.device("meta"):
        network = build_backbone(call.network, **({} if call.shape[0] == 3 else {"inputs": call.shape[0]}))
        clips = torch.empty(2, *call.shape)  # BatchNorm takes no statistics of one
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output.numel()))
    with finer_in_time(network, call.finer) if call.finer > 1 else nullcontext():
        with FlopCounterMode(display=False) as forward:
            features = network(clips)
        with FlopCounterMode(display=False) as backward:
            features.sum().backward()
    return Cost(forward.get_total_flops() // 2, backward.get_total_flops() // 2, sum(outputs) // 2)


def calls(trainer: str, c) -> list[Call]:
    """What the networks of a trainer see in a step of configuration `c`."""
    clip = (3, c.frames, c.size, c.size)
    if trainer == "fima":  # two views; the momentum copy sees them, their differences, and those of their parts
        return [Call(c.backbone, 2, clip, True), Call(c.backbone, 2 + 2 + 2 * c.stride, clip, False)]
    if trainer == "mcl":
        return [Call(c.backbone, 1, clip, True), Call(c.backbone, len(c.views()) - 1, clip, False)]
    if trainer == "modist":
        motion = (3, c.motion_frames, c.size, c.size)
        shapes = {c.backbone: clip, c.motion_backbone: motion}
        return [Call(name, 1, shape, trained) for name, shape in shapes.items() for trained in (True, False)]
    if trainer == "controllable":
        with torch.device("meta"):
            cells = build_backbone(c.backbone)(torch.empty(2, *clip)).shape[2]
        return [Call(c.backbone, c.clips, clip, True), Call(c.backbone, 1, clip, True, c.global_cells // cells)]
    return [
        Call(c.backbone, 1, clip, True),
        Call(c.image_backbone, 1, (3, 1, c.size, c.size), True),
        Call(c.motion_backbone, c.motion_clips(), (2, c.motion_frames, c.size, c.size), True),
    ]


def preset(trainer: str):
    return import_module(f"motionops.methods.{trainer}").PRESETS[PRESETS[trainer]]


def tables() -> str:
    networks = [
        "| trainer | network | clips a video | clip | GFLOP a clip, forward | backward | MB, forward | backward |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    steps = [
        "| trainer | preset | videos | TFLOP | GB | ms by operations | ms by bytes | ms, the larger of each pass |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for trainer, name in PRESETS.items():
        config, totals, seconds = preset(trainer), [0, 0], 0.0
        for call in calls(trainer, config):
            one, count = cost(call), call.clips * config.batch_size
            passes = one.passes(call.trained)
            totals = [total + count * sum(part) for total, part in zip(totals, zip(*passes, strict=True), strict=True)]
            seconds += count * one.seconds(call.trained)
            network = call.network + ("" if call.trained else ", momentum") + (", finer" if call.finer > 1 else "")
            shape = " × ".join(map(str, call.shape))
            shown = [f"{part[0] / 1e9:.1f}" for part in passes] + ["–"] * (2 - len(passes))
            shown += [f"{part[1] / 1e6:.0f}" for part in passes] + ["–"] * (2 - len(passes))
            networks.append(f"| {trainer} | {network} | {call.clips} | {shape} | {' | '.join(shown)} |")
        operations, moved = totals
        times = operations / OPERATIONS_PER_SECOND, moved / BYTES_PER_SECOND, seconds
        shown = [f"{operations / 1e12:.1f}", f"{moved / 1e9:.0f}", *(f"{1e3 * time:.0f}" for time in times)]
        steps.append(f"| {trainer} | {name} | {config.batch_size} | {' | '.join(shown)} |")
    return "\n".join([*networks, "", *steps])


if __name__ == "__main__":
    print(tables())
