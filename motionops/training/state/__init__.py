"""Where a run is: what is kept of it, how it is copied, and how a run goes on from it."""
