"""Operators on motion between frames."""

from motionops.flow.clip_flow import clip_flow
from motionops.flow.flow_edges import flow_edges, flow_edges_reference
from motionops.flow.frame_difference import frame_difference, frame_difference_reference
from motionops.flow.motion_map import motion_map, motion_map_reference
from motionops.flow.tvl1_flow import tvl1_flow, tvl1_flow_reference

__all__ = [
    "clip_flow",
    "flow_edges",
    "flow_edges_reference",
    "frame_difference",
    "frame_difference_reference",
    "motion_map",
    "motion_map_reference",
    "tvl1_flow",
    "tvl1_flow_reference",
]
