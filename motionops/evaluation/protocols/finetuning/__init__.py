"""A supervised training on top of a backbone: its settings, its clips, its network, its end."""
