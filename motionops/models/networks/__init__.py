"""The backbones' architectures, a file a family."""
