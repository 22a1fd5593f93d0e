"""Who looks at a run while it goes: its bar, its gradients, what it waits for, where its time goes."""
