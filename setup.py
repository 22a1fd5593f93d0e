"""Builds the operators, motionops/_operators.so, with ninja (build_support/); everything else is in pyproject.toml."""

import os
import re
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # a new environment has the one that its Python brings
    sys.exit(
        f"error: motionops is built with setuptools 77 or newer, this is {setuptools.__version__}:"
        " pip install 'setuptools>=77' ninja"
    )

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from build_support.ninja_build import build_operators  # noqa: E402
from build_support.toolchain import BuildError  # noqa: E402


def version() -> str:
    """The package's own, with a label where a wheel has one (build_support/wheels.py)."""
    text = (ROOT / "motionops" / "__init__.py").read_text()
    label = os.environ.get("MOTIONOPS_VERSION_LABEL")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1] + (f"+{label}" if label else "")


class BuildWithNinja(build_ext):
    def get_ext_filename(self, fullname):
        return f"{fullname.replace('.', '/')}.so"  # no part of its name says a Python: it knows none

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            build_operators(target)
        except (BuildError, FileNotFoundError) as error:
            sys.exit(f"error: {error}")


class WheelOfEveryPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    version=version(),
    ext_modules=[Extension("motionops._operators", sources=[])],
    cmdclass={"build_ext": BuildWithNinja, "bdist_wheel": WheelOfEveryPython},
)
