"""How a run goes: from the flags to the last checkpoint, whatever the method."""
