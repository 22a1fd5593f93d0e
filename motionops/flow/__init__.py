"""Operators on motion between frames."""
