"""Puts ``pipelines/`` and ``manifests/`` into the package in a wheel; everything else is in ``pyproject.toml``.

An editable install uses them where they are, beside the package (``posecap/builtin.py``).
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPipelines(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern in ("pipelines/*.py", "manifests/*.csv", "manifests/*.yaml"):
            for file in sorted(Path().glob(pattern)):
                target = Path(self.build_lib, "posecap", file)
                self.mkpath(str(target.parent))
                self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithPipelines})
