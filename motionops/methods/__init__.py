"""The published methods, a folder each: `method.py` is the paper."""
