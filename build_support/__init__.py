"""How the extensions are built: finding the compilers, listing the sources, writing the ninja file."""
