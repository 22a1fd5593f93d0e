"""Videos: reading with PyAV, lists and split files, the training data set, and the generated MovingShapes set."""

from motionops.video import moving_shapes
from motionops.video.checking import Skipped, UnusableVideos, check_videos, require_usable
from motionops.video.dataset import VideoDataset, collate_videos
from motionops.video.edges_folder import EdgesFolder
from motionops.video.lists import Video, class_names, find_videos, read_list
from motionops.video.motion_file import MotionFile
from motionops.video.reading import VideoError, count_frames, read_frames, read_video

__all__ = [
    "EdgesFolder",
    "MotionFile",
    "Skipped",
    "UnusableVideos",
    "Video",
    "VideoDataset",
    "VideoError",
    "check_videos",
    "class_names",
    "collate_videos",
    "count_frames",
    "find_videos",
    "moving_shapes",
    "read_frames",
    "read_list",
    "read_video",
    "require_usable",
]
