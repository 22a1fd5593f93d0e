"""What moves in a video: motion vectors of its stream, optical flow of its frames, and files that keep either."""

from motionops.motion.edges_folder import EdgesFolder
from motionops.motion.motion_file import MotionFile
from motionops.motion.motion_vectors import CodedClip, read_coded_clip, read_motion_vectors
from motionops.motion.vector_decoder import MotionVectorWarning

__all__ = [
    "CodedClip",
    "EdgesFolder",
    "MotionFile",
    "MotionVectorWarning",
    "read_coded_clip",
    "read_motion_vectors",
]
