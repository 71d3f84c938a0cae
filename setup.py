"""Beside pyproject.toml only for this: an installed package carries the CUDA sources inside itself."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSources(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # there the checkout's own folder is found
            target = Path(self.build_lib) / "cascade_lab" / "cuda_src"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("cuda_src", target)


setup(cmdclass={"build_py": BuildWithSources})
