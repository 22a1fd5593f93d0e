"""The flags of Context-Motion Decoupling and the presets: what the paper sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from motionops.errors import UserError
from motionops.flags import FREE, LOCAL, POSITIVE, AtLeast, Below, Only, Within
from motionops.models.shapes import named_map_shape
from motionops.training.shared_flags import Contrast, Groups, Look

VECTOR_CHANNELS = 2  # u, v
CONTEXT = Only("an --alpha below 1", lambda c: c.uses_context())
MOTION = Only("an --alpha above 0", lambda c: c.uses_motion())
VALUES = Only("a --motion-loss of values", lambda c: c.uses_motion() and c.motion_loss != "infonce")
VECTORS = Only("--motion vectors", lambda c: c.uses_motion() and c.motion == "vectors")
TRANSFORMER = Only("--predictor transformer", lambda c: c.uses_motion() and c.predictor == "transformer")


@dataclass(frozen=True)
class ContextMotionConfig(Contrast, Look, Groups):
    """Learn video features from unlabelled videos: clips are matched with key frames and predict motion vectors."""

    output: Annotated[Path, FREE, LOCAL] = Path("runs/context-motion")
    """Folder for last.ckpt, backbone.safetensors, metrics and pictures."""
    epochs: Annotated[int, AtLeast(1)] = 20
    """Passes over the training videos; the learning rate's schedule spans them."""

    backbone: Literal["r3d_small", "c3d", "r2plus1d_26", "r3d_26", "r3d_18", "r2plus1d_18"] = "r3d_small"
    """V-network, over clips: what is kept."""
    image_backbone: Annotated[Literal["r2d_small", "r2d_10"], CONTEXT] = "r2d_small"
    """I-network, over key frames."""
    motion_backbone: Annotated[Literal["r3d_10_eighth", "r3d_small", "r3d_10"], MOTION] = "r3d_10_eighth"
    """M-network, over motion vectors. The finer its map, the longer the place in it is all that is predicted."""

    alpha: Annotated[float, Within(0, 1)] = 0.5
    """Share of the motion loss: J = (1 - alpha) J_I + alpha J_M (Eq. 3). 0 is context alone, 1 motion alone."""
    temperature: Annotated[float, POSITIVE] = 0.1
    """Temperature of both losses."""
    period: Annotated[Literal["future", "current"], MOTION] = "future"
    """Motion that is predicted: of the frames behind the clip, or of the clip's own middle (Table 1)."""
    motion_frames: Annotated[int, AtLeast(1), MOTION] = 8
    """Frames of a motion clip, one after the other."""
    motion_steps: Annotated[int, AtLeast(0), MOTION] = 0
    """Time steps of the M-network's input, in which the frames of a motion clip are repeated; 0: as many as frames."""
    hard_negatives: Annotated[
        int, AtLeast(0), Only("--motion-loss infonce", lambda c: c.uses_motion() and c.motion_loss == "infonce")
    ] = 3
    """Further motion clips of the same video whose features are negatives; 0: none."""
    motion_loss: Annotated[Literal["infonce", "mse", "cross-entropy"], MOTION] = "infonce"
    """What is predicted (Table 1): features of the motion (Eq. 2), its values, or ranges of its values."""
    levels: Annotated[int, AtLeast(2), VALUES] = 9
    """Ranges of each component's values for --motion-loss cross-entropy."""
    level_limit: Annotated[float, POSITIVE, VALUES] = 2.0
    """Vector length in pixels of the clip at which the outermost ranges begin."""
    negatives: Literal["ranks", "local", "group"] = "ranks"
    """Whose other samples are negatives: those of all processes, of each by itself, or of a --group, as of a GPU."""

    motion: Annotated[Literal["vectors", "tvl1"], MOTION] = "vectors"
    """Motion vectors out of the compressed stream, or TV-L1 optical flow computed in each step (Table 4)."""
    cell: Annotated[int, AtLeast(1), VECTORS] = 8
    """Side of the cells, in pixels of the file, in which motion vectors are averaged."""
    fill_key_frames: Annotated[bool, VECTORS] = True
    """Whether key frames, which are coded without vectors, get those of their neighbour. Without it the place of the
    zeros among a motion clip's frames tells where in its group of pictures it lies."""

    predictor: Annotated[Literal["transformer", "convgru"], MOTION] = "transformer"
    """Encoder-decoder from the clip's features to the motion's (Table 1)."""
    width: Annotated[int, AtLeast(1), MOTION] = 128
    """Size of its tokens (transformer) or state (convgru)."""
    encoder_layers: Annotated[int, AtLeast(0), TRANSFORMER] = 1
    """Encoding layers of the transformer."""
    decoder_layers: Annotated[int, AtLeast(1), TRANSFORMER] = 2
    """Decoding layers of the transformer."""
    heads: Annotated[int, AtLeast(1), TRANSFORMER] = 4
    """Attention heads of the transformer."""
    feedforward: Annotated[int, AtLeast(1), TRANSFORMER] = 256
    """Hidden size of the transformer's feed-forward parts."""
    dropout: Annotated[float, Below(0, 1), TRANSFORMER] = 0.1
    """Dropout of the transformer."""

    grayscale: Annotated[float, Within(0, 1)] = 0.0
    """Probability of a grey clip or key frame."""
    blur: Annotated[float, Within(0, 1)] = 0.5
    """Probability of a blurred clip or key frame."""

    def uses_context(self) -> bool:
        """Whether there is a context loss."""
        return self.alpha < 1

    def uses_motion(self) -> bool:
        """Whether there is a motion loss."""
        return self.alpha > 0

    def reads_vectors(self) -> bool:
        """Whether motion vectors are read of the files."""
        return self.uses_motion() and self.motion == "vectors"

    def motion_clips(self) -> int:
        """Motion clips of a video: none, the positive one, or it and the hard negatives."""
        if not self.uses_motion():
            return 0
        return 1 + (self.hard_negatives if self.motion_loss == "infonce" else 0)

    def steps(self) -> int:
        """Time steps of the M-network's input."""
        return self.motion_steps or self.motion_frames

    def span(self) -> int:
        """Source frames from the clip's first to its last."""
        return (self.frames - 1) * self.stride + 1

    def window(self) -> int:
        """Source frames that a video must have."""
        if not self.uses_motion():
            return self.span()
        if self.period == "current" or self.motion == "tvl1":  # of flow, the frame before a motion clip is read too
            return self.span() + 1 + (self.motion_frames if self.period == "future" else 0)
        return self.span() + self.motion_frames

    def check(self) -> None:
        super().check()
        if self.predictor == "transformer" and (self.width % 2 or self.width % self.heads):
            raise UserError(f"--width: must be even and a multiple of --heads {self.heads}, got {self.width}")
        if self.period == "current" and self.uses_motion() and self.motion_frames > self.span():
            raise UserError(
                f"--period current: the clip spans {self.span()} frames, fewer than --motion-frames "
                f"{self.motion_frames}"
            )
        if self.negatives == "group" and not self.group:
            raise UserError("--negatives group: --group says how many samples there are on a paper's GPU")
        if 0 < self.motion_steps < self.motion_frames:
            raise UserError(
                f"--motion-steps: {self.motion_steps} are fewer than the {self.motion_frames} --motion-frames; 0 takes "
                "as many"
            )

    def check_backbone(self) -> None:
        super().check_backbone()
        if self.uses_motion():
            self.motion_map_shape()

    def motion_map_shape(self) -> tuple[int, int, int]:
        """(T3, H3, W3) of the M-network's map. UserError where it cannot take the motion clips."""
        clip = self.steps(), self.size, VECTOR_CHANNELS
        return named_map_shape(self.motion_backbone, *clip, flag="--motion-frames")


_UCF101 = ContextMotionConfig(
    preset="ucf101",
    backbone="c3d",
    image_backbone="r2d_10",
    motion_backbone="r3d_10",
    frames=16,
    stride=4,
    size=112,
    epochs=120,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.032,
    weight_decay=0.005,
    warmup_epochs=0.0,
    crop_area=(0.2, 1.0),
    evaluation_crop=0.875,
    workers=8,
    group=16,
    motion_steps=16,
    encoder_layers=2,
    decoder_layers=4,
    width=512,
    heads=8,
    feedforward=2048,
    hidden=2048,
    dim=512,
)
PRESETS = {
    # MovingShapes' classes differ in motion alone: what the context loss teaches there is in the way.
    "demo": ContextMotionConfig(alpha=0.99),
    "ucf101": _UCF101,
    "kinetics400": replace(_UCF101, preset="kinetics400", batch_size=512, learning_rate=0.256),
}
