"""What moves in a video: motion vectors of its stream, optical flow of its frames, and files that keep either."""

from motionops.motion.edges_folder import EdgesFolder
from motionops.motion.motion_file import MotionFile
from motionops.motion.motion_vectors import CodedClip, read_coded_clip, read_motion_vectors
from motionops.motion.prepare.flow_edges import prepare_flow_edges
from motionops.motion.prepare.motion import prepare_motion
from motionops.motion.prepare.reencode import reencode_videos
from motionops.motion.vector_decoder import MotionVectorWarning

__all__ = [
    "CodedClip",
    "EdgesFolder",
    "MotionFile",
    "MotionVectorWarning",
    "prepare_flow_edges",
    "prepare_motion",
    "read_coded_clip",
    "read_motion_vectors",
    "reencode_videos",
]
