"""``build_support/versions.txt``: the version of every package that this environment has, as `make lock` writes it.

Set-up hands the file to pip as constraints: a package that an extra does not ask for is not installed by it.
"""

from __future__ import annotations

from importlib import metadata

from packaging.utils import canonicalize_name

from build_support.environment import VERSIONS

HEAD = """\
# Versions that are known to work together: `make lock` writes them, set-up and CI install them (Python 3.11 and newer).
"""
# What is this project's own, or makes the environment itself.
OWN = {"motionops", "pip"}


def versions() -> dict[str, str]:
    """Package -> version, without local labels: those are of an index, and not of a version."""
    found = {canonicalize_name(part.name): part.version.partition("+")[0] for part in metadata.distributions()}
    return {name: version for name, version in sorted(found.items()) if name not in OWN}


if __name__ == "__main__":
    VERSIONS.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in versions().items()))
