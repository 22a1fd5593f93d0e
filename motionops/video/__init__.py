"""Videos: reading with PyAV, lists and split files, the training data set, and the generated MovingShapes set."""

from motionops.video import moving_shapes
from motionops.video.reading import VideoError, count_frames, read_frames, read_video

__all__ = ["VideoError", "count_frames", "moving_shapes", "read_frames", "read_video"]
