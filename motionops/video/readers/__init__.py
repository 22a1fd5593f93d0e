"""The processes that read videos for another one: how they start, and how their batches reach it."""
