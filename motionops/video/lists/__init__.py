"""Which videos there are: lists, split files and class folders."""

from motionops.video.lists.agreement import check_lists
from motionops.video.lists.columns import ListColumn
from motionops.video.lists.folders import find_videos
from motionops.video.lists.reading import read_list
from motionops.video.lists.shards import data_place, folder_of, folder_of_list

__all__ = ["ListColumn", "check_lists", "data_place", "find_videos", "folder_of", "folder_of_list", "read_list"]
