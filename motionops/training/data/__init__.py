"""From the flags to the batches of a run: which videos, in which order, read by whom."""
