"""Geometry of views: what two views of one video share."""

from motionops.geometry.soft_correspondence import soft_correspondence, soft_correspondence_reference

__all__ = ["soft_correspondence", "soft_correspondence_reference"]
