"""Programs of benchmarks/ and pipelines/, which are no packages, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def program(path: Path) -> ModuleType:
    """A program of a folder that is no package, as a module of its own; its neighbours can be imported by it."""
    spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        patch.setitem(sys.modules, spec.name, module)  # where dataclasses look their annotations up
        spec.loader.exec_module(module)
    return module
