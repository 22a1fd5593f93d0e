"""Where the bytes of a video come from: a file of its own, a member of a tar, an object of a store."""

from motionops.video.sources.addresses import absolute, is_address, real, shown, written
from motionops.video.sources.faults import VideoError, tried_again
from motionops.video.sources.opening import State, exists, open_bytes, opened, state

__all__ = [
    "State",
    "VideoError",
    "absolute",
    "exists",
    "is_address",
    "open_bytes",
    "opened",
    "real",
    "shown",
    "state",
    "tried_again",
    "written",
]
