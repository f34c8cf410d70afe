"""Imports programs of benchmarks/ and pipelines/, folders that are not packages."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def program(path: Path) -> ModuleType:
    """The program as a module; it can import other modules of its folder."""
    spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        patch.setitem(sys.modules, spec.name, module)  # where dataclasses look their annotations up
        spec.loader.exec_module(module)
    return module
