"""Videos: reading with PyAV, lists and split files, the training data set, and the generated MovingShapes set."""

from motionops.video import moving_shapes

__all__ = ["moving_shapes"]
