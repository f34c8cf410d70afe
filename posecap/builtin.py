"""Pipelines and manifests that come with posecap, by name: ``default`` is ``pipelines/default.py``.

A wheel has both folders inside the package; in a checkout, and in an editable install of one, they lie beside it.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from posecap.terminal import nearest

DEFAULT_PIPELINE = "default"
_PACKAGE = Path(__file__).parent


def pipelines() -> Mapping[str, Path]:
    """The pipeline files of posecap by name, the default first. Other programs of that folder are left out."""
    defining = re.compile(r"^pipeline = ", re.MULTILINE)  # what posecap.pipeline.load_pipeline looks for
    found = {path.stem: path for path in _files("pipelines", "*.py") if defining.search(path.read_text("utf-8"))}
    return dict(sorted(found.items(), key=lambda entry: (entry[0] != DEFAULT_PIPELINE, entry[0])))


def manifests() -> Mapping[str, Path]:
    """The manifests of posecap by name."""
    return {path.stem: path for path in _files("manifests", "*.yaml")}


def pipeline_path(written: str, folder: Path) -> Path:
    """The file of a pipeline that is named as one of posecap's, or by its path relative to ``folder``."""
    return pipelines().get(written) or (folder / written).resolve()


def nearest_pipeline(word: str) -> str:
    """The end of a message about a pipeline that there is not: the nearest name, and all of them."""
    return f"{nearest(Path(word).stem, pipelines(), there='posecap has')}; `posecap pipeline list` describes them"


def nearest_manifest(word: str) -> str:
    """The end of a message about a manifest that there is not: the nearest name, and all of them."""
    return nearest(Path(word).stem, manifests(), there="posecap has")


def program(name: str) -> str:
    """The command of a program that lies beside the pipelines, as ``python pipelines/prompt_vectors.py``.

    The path is relative to the current folder where that has the file, and absolute elsewhere.

    Raises:
        ValueError: there is no such program.
    """
    (path,) = _files("pipelines", f"{name}.py")
    here = Path.cwd()
    return f"python {shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))}"


def summary(pipeline: Path) -> str:
    """The first sentence of a pipeline file's docstring; empty where it has none."""
    text = ast.get_docstring(ast.parse(pipeline.read_bytes())) or ""
    return " ".join(re.split(r"(?<=\.)\s", text, maxsplit=1)[0].split())


def _files(folder: str, pattern: str) -> list[Path]:
    """Files of a folder that is inside the package or beside it, by name; none where it is in neither place."""
    places = (_PACKAGE / folder, _PACKAGE.parent / folder)
    return sorted(next((place for place in places if place.is_dir()), places[0]).glob(pattern))
