"""What video codecs know of motion."""

from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors, rasterize_motion_vectors_reference
from motionops.codec.records import COLUMNS, pack_records

__all__ = ["COLUMNS", "pack_records", "rasterize_motion_vectors", "rasterize_motion_vectors_reference"]
