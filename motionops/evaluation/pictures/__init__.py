"""Pictures of a run: training curves, foreground masks, activation maps, motion, retrieved neighbours, confusions.

Every function writes one PNG, and an SVG beside it within ``drawn_for(svg=True)``, and returns its path;
``moving_picture`` writes a GIF. Frames are uint8 ``[H, W, 3]``, as they were read. matplotlib is
imported where it draws, and always without a display.
"""

from motionops.evaluation.pictures.activation import (
    activation_overlay,
    foreground_overlay,
    map_columns,
    scaled_activation,
)
from motionops.evaluation.pictures.affinity import (
    affinity_matrix,
    affinity_picture,
    clip_similarities,
    similarity_picture,
)
from motionops.evaluation.pictures.attention import point_attention
from motionops.evaluation.pictures.confusion import confusion_picture
from motionops.evaluation.pictures.curves import training_curves
from motionops.evaluation.pictures.drawing import drawn_for
from motionops.evaluation.pictures.motion import flow_colours, motion_inputs, motion_panels, moving_picture
from motionops.evaluation.pictures.scores import score_bars, score_curve
from motionops.evaluation.pictures.strips import retrieval_strips
from motionops.evaluation.pictures.tsne import tsne, tsne_picture

__all__ = [
    "activation_overlay",
    "affinity_matrix",
    "affinity_picture",
    "clip_similarities",
    "confusion_picture",
    "drawn_for",
    "flow_colours",
    "foreground_overlay",
    "map_columns",
    "motion_inputs",
    "motion_panels",
    "moving_picture",
    "point_attention",
    "retrieval_strips",
    "scaled_activation",
    "score_bars",
    "score_curve",
    "similarity_picture",
    "training_curves",
    "tsne",
    "tsne_picture",
]
