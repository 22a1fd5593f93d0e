"""Builds the operators, motionops/_operators.so, with ninja (build_support/); everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_support.ninja_build import OPERATORS, build_operators
from build_support.toolchain import BuildError


class BuildWithNinja(build_ext):
    def get_ext_filename(self, fullname):
        return f"{fullname.replace('.', '/')}.so"  # no part of its name says a Python: it knows none

    def build_extension(self, ext):
        try:
            build_operators()
        except (BuildError, FileNotFoundError) as error:
            sys.exit(f"error: {error}")
        # `pip install .` takes the file from where this command says, `pip install -e .` from where it was built
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        if target != OPERATORS:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(OPERATORS), str(target))


class WheelOfEveryPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("motionops._operators", sources=[])],
    cmdclass={"build_ext": BuildWithNinja, "bdist_wheel": WheelOfEveryPython},
)
