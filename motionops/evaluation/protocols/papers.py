"""How each paper evaluates: ``--protocol fima|fima-released|mcl|modist|modist-ssv2|controllable|context-motion``.

What a paper states is written down here with its place; None is what it does not state, and the default of the command
then rules (for clips: what the backbone's file says). Values that a paper states for UCF101 and HMDB51 apart are those
of UCF101, with HMDB51's in the text. All papers score every video of a test set, so a video that is shorter than a clip
holds its last frame. "Predictions" and "scores" that are averaged over clips are taken to be softmax probabilities, as
Controllable Augmentations says. Where the linear layer's schedule is not given, it is the logistic regression on mean
features.

* **fima** (Zhu et al., ACM MM 2023). "Downstream Task Evaluations" in section 4.1: 10 uniformly spaced clips, their
  predictions averaged; retrieval by cosine. Appendix A.4: fine-tuning for 150 epochs, SGD with momentum 0.9, weight
  decay 1e-4, rate 0.0033 at batch 16, a tenth from epochs 60 and 120, dropout 0.7 (HMDB51: 0.5), the pre-training's
  augmentation (A.3: crops of area 0.2 to 1, mirror, grayscale and colour jitter with probability 0.2) without its blur;
  the linear probe trains a layer for 100 epochs at rate 1.5, batch 16, a tenth from epochs 60 and 80, without dropout
  and weight decay. The released backbones scale the features to unit length in that mode, without which such a rate has
  no meaning. **fima-released** is fine-tuning as the released scripts have it: rate 0.01, colour jitter with
  probability 0.8. (They average the logarithms of I3D's probabilities; here, probabilities are averaged.)
* **mcl** (Li et al., ICCV 2021). "Linear Protocol" in section 4.2: 20 clips, short side to 256, centre crop of 224, the
  mean feature, then a linear SVM (UCF101) or a fully connected layer with softmax (Kinetics-400). Fine-tuning is "in
  standard supervised setting"; what the paper does not give, the released code does: 150 epochs, SGD with Nesterov's
  momentum, rate 0.01, half a cosine, weight decay 1e-4, batches of 256 in parts of 16 (four GPUs, four accumulated
  steps), gradients clipped to norm 40, dropout 0.9, 32 frames with stride 2, crops of area 0.2 to 1, mirror,
  RandAugment with one operation of magnitude 23 (HMDB51: three of 17), 20 clips x 3 crops of 256 pixels in testing.
  That code takes the clips of its test from 16 frames one after another, and shows a short video's frames twice; here
  a test clip is like one of training, and a short video holds its last frame.
* **modist** (Xiao et al., 2021). Section 4.2: 32 x 8 inputs, 10 temporal x 3 spatial crops in testing; the caption of
  table 3: 8 x 8. Section 4.5: low-shot fine-tuning with 1, 5, 20, 40, 60, 80 and 100 % of UCF101's training videos.
  The linear layer's schedule is not given, nor that of fine-tuning on UCF101 and HMDB51: here section 4.3's.
* **modist-ssv2**: Something-Something v2, section 4.3: 16 x 8, 22 epochs at batch 16, rate 0.03, a tenth from epochs
  14 and 18, warm-up over 0.19 epochs from 1e-4, "a recipe that mostly follows the official implementation" of SlowFast.
  That draws one frame of each of as many segments of the whole video, mirrors and recolours nothing (classes tell left
  from right), decays weights by 1e-6, and tests one clip, its centre square of 256 pixels.
* **controllable** (Qian et al., 2022). "Action Recognition" and "Video Retrieval" in section 4.2: 10 uniformly
  spaced clips, centre crop to 112 x 112, softmax averaged; retrieval with the mean feature. Schedules not given.
* **context-motion** (Huang et al., CVPR 2021). "Finetuning settings" in section 4.1: 120 epochs at batch 8, rate
  0.0001 x 8 (HMDB51: 0.0002 x 8), weight decay 0.003 (HMDB51: 0.002), SGD, cosine, dropout 0.3, random crop, mirror,
  blur and colour jitter (how often is not stated; here 0.5 and 0.8), the scores of 10 clips averaged; clips of
  16 frames with stride 4 at 112 x 112 ("Pretraining settings"). "Video retrieval settings": 10 clips, mean feature.
  It has no linear protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from motionops.errors import UserError

ProtocolName = Literal["fima", "fima-released", "mcl", "modist", "modist-ssv2", "controllable", "context-motion"]
Settings = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What a paper states, by the names of the flags.

    Attributes:
        clips: of testing and of frozen features: clips, crops, crop, frames, stride, size, short, sampling. A network
            over single frames keeps those of its file (`clip_settings`).
        linear: of the linear layer; ``fit`` "sgd" trains it on augmented clips by the schedule that follows.
        svm, finetune, lowshot, retrieval: likewise. None: the paper has no such protocol.
    """

    clips: Settings
    linear: Settings | None = field(default_factory=dict)
    svm: Settings | None = None
    finetune: Settings | None = field(default_factory=dict)
    lowshot: Settings | None = None
    retrieval: Settings | None = field(default_factory=dict)


_SGD = {"optimizer": "sgd", "warmup_epochs": 0.0}
_PLAIN = {"grayscale": 0.0, "jitter": 0.0, "blur": 0.0}
_FIMA_LOOK = {"crop_area": (0.2, 1.0), "grayscale": 0.2, "jitter": 0.2, "blur": 0.0}
_FIMA_FINETUNE = {
    **_SGD, **_FIMA_LOOK, "epochs": 150, "batch_size": 16, "learning_rate": 0.0033, "weight_decay": 1e-4,
    "dropout": 0.7, "milestones": (60, 120),
}  # fmt: skip
_MODIST_FINETUNE = {
    **_SGD, "epochs": 22, "batch_size": 16, "learning_rate": 0.03, "milestones": (14, 18), "warmup_epochs": 0.19,
    "warmup_start": 1e-4,
}  # fmt: skip

PROTOCOLS: dict[str, Protocol] = {
    "fima": Protocol(
        clips={"clips": 10, "crops": 1, "short": "hold"},
        linear={
            **_SGD, **_FIMA_LOOK, "fit": "sgd", "epochs": 100, "batch_size": 16, "learning_rate": 1.5,
            "weight_decay": 0.0, "dropout": 0.0, "milestones": (60, 80), "normalise": True,
        },
        finetune=_FIMA_FINETUNE,
    ),
    "fima-released": Protocol(
        clips={"clips": 10, "crops": 1, "short": "hold"},
        linear=None,
        finetune={**_FIMA_FINETUNE, "learning_rate": 0.01, "jitter": 0.8},
        retrieval=None,
    ),
    "mcl": Protocol(
        clips={"clips": 20, "crops": 1, "crop": 224 / 256, "frames": 16, "stride": 2, "size": 224, "short": "hold"},
        svm={},
        finetune={
            **_SGD, **_PLAIN, "nesterov": True, "epochs": 150, "batch_size": 256, "accumulate": 16,
            "learning_rate": 0.01, "weight_decay": 1e-4, "clip_gradient": 40.0, "dropout": 0.9, "frames": 32,
            "crop_area": (0.2, 1.0), "rand_augment": (1, 23), "crops": 3, "crop": 1.0, "test_size": 256,
        },
    ),
    "modist": Protocol(
        clips={"clips": 10, "crops": 3, "crop": 1.0, "frames": 32, "stride": 8, "short": "hold"},
        finetune=_MODIST_FINETUNE,
        lowshot={"shares": (1.0, 5.0, 20.0, 40.0, 60.0, 80.0, 100.0)},
        retrieval=None,
    ),
    "modist-ssv2": Protocol(
        clips={"clips": 1, "crops": 1, "crop": 1.0, "frames": 16, "sampling": "segments", "size": 224, "short": "hold"},
        finetune={**_MODIST_FINETUNE, **_PLAIN, "weight_decay": 1e-6, "mirror": 0.0, "test_size": 256},
        retrieval=None,
    ),
    "controllable": Protocol(clips={"clips": 10, "crops": 1, "crop": 1.0, "size": 112, "short": "hold"}),
    "context-motion": Protocol(
        clips={"clips": 10, "crops": 1, "frames": 16, "stride": 4, "size": 112, "short": "hold"},
        linear=None,
        finetune={
            **_SGD, "epochs": 120, "batch_size": 8, "learning_rate": 0.0008, "weight_decay": 0.003, "dropout": 0.3,
            "grayscale": 0.0, "jitter": 0.8, "blur": 0.5,
        },
    ),
}  # fmt: skip


def protocol_settings(name: str | None, command: str) -> Settings:
    """What a paper states for a command: its clips and, where it is a matter of training, its schedule.

    Raises:
        UserError: the paper has no such evaluation; the text names those that have.
    """
    if name is None:
        return {}
    protocol = PROTOCOLS[name]
    if command == "pictures":  # any paper's clips can be drawn
        return dict(protocol.clips)
    own = getattr(protocol, command)
    if own is None:
        others = [other for other, protocol in PROTOCOLS.items() if getattr(protocol, command) is not None]
        raise UserError(f"--protocol: the paper of {name} has no {command} evaluation; {', '.join(others)} have")
    training = protocol.finetune if command == "lowshot" else {}
    return {**protocol.clips, **training, **own}


def clip_settings(stated: Settings, of_file: Settings) -> Settings:
    """What a protocol states over what the backbone's file says of its clips; single frames stay single frames."""
    single = {"frames": 1, "stride": 1} if of_file.get("frames") == 1 else {}
    return {**of_file, **stated, **(single if "frames" in stated else {})}
