"""The report of a backbone: what it is drawn of, and its chapters."""
