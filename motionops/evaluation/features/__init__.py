"""Features of whole videos from a frozen backbone."""
