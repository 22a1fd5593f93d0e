"""Layers of networks as operators."""
