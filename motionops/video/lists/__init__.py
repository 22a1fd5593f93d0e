"""Which videos there are: lists, split files and class folders."""

from motionops.video.lists.agreement import check_lists
from motionops.video.lists.columns import ListColumn
from motionops.video.lists.folders import find_videos
from motionops.video.lists.reading import read_list

__all__ = ["ListColumn", "check_lists", "find_videos", "read_list"]
