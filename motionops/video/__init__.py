"""Videos: reading with PyAV, lists and split files, the training data set, and the generated MovingShapes set."""

from motionops.video import moving_shapes
from motionops.video.batches import VideoBatchSampler
from motionops.video.checking import Skipped, UnusableVideos, check_videos, require_usable
from motionops.video.dataset import VideoDataset, start_worker
from motionops.video.list_lines import Video, class_names
from motionops.video.lists import find_videos, read_list
from motionops.video.readers.batch import Batch, KnownVideo, Plan, collate_videos
from motionops.video.readers.frame_reader import FrameReader
from motionops.video.readers.random_clips import RandomClips
from motionops.video.reading import VideoError, count_frames, key_frame_numbers, read_frames, read_video

__all__ = [
    "Batch",
    "FrameReader",
    "KnownVideo",
    "Plan",
    "RandomClips",
    "Skipped",
    "UnusableVideos",
    "Video",
    "VideoBatchSampler",
    "VideoDataset",
    "VideoError",
    "check_videos",
    "class_names",
    "collate_videos",
    "count_frames",
    "find_videos",
    "key_frame_numbers",
    "moving_shapes",
    "read_frames",
    "read_list",
    "read_video",
    "require_usable",
    "start_worker",
]
