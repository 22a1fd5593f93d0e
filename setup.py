"""Builds the extension motionops._C with ninja (build_support/); everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_support.ninja_build import EXTENSION, build_extension
from build_support.toolchain import BuildError


class BuildWithNinja(build_ext):
    def build_extension(self, ext):
        try:
            build_extension(EXTENSION)
        except (BuildError, FileNotFoundError) as error:
            sys.exit(f"error: {error}")
        # `pip install .` takes the file from where this command says, `pip install -e .` from where it was built
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        if target != EXTENSION:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(EXTENSION), str(target))


setup(ext_modules=[Extension("motionops._C", sources=[])], cmdclass={"build_ext": BuildWithNinja})
