"""Videos: reading with PyAV, lists and split files, the training data set, and the generated MovingShapes set."""

from motionops.video import moving_shapes
from motionops.video.checking import Skipped, UnusableVideos, check_videos, require_usable
from motionops.video.dataset import VideoDataset, collate_videos
from motionops.video.edges_folder import EdgesFolder
from motionops.video.lists import Video, class_names, find_videos, read_list
from motionops.video.motion_file import MotionFile
from motionops.video.motion_vectors import CodedClip, read_coded_clip, read_motion_vectors
from motionops.video.reading import VideoError, count_frames, key_frame_numbers, read_frames, read_video
from motionops.video.vector_decoder import MotionVectorWarning

__all__ = [
    "CodedClip",
    "EdgesFolder",
    "MotionFile",
    "MotionVectorWarning",
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
    "key_frame_numbers",
    "moving_shapes",
    "read_coded_clip",
    "read_frames",
    "read_list",
    "read_motion_vectors",
    "read_video",
    "require_usable",
]
