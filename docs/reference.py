"""Writes the API reference of the site: a page for each package, with its modules, from their docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
TOPS = ("posecap", "tmor_train")
LEFT_OUT = ("__main__", "cli", "commands")  # read by people as --help
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")

INDEX = """\
# API

What most programs need:

- [`posecap.open`][posecap.stream.ShardStream], [`posecap.index`][posecap.stream.read_index],
  [`posecap.read`][posecap.stream.read_sample] and [`posecap.collate`][posecap.stream.collate] read a dataset,
  [`posecap.webdataset`][posecap.loaders.webdataset] and [`posecap.huggingface`][posecap.loaders.huggingface] as
  those packages do;
- [`tmor_train.load`][tmor_train.pretrained.encoder.load] gives a trained encoder.

| package | what it is |
| --- | --- |
"""


class PlainRoles(griffe.Extension):
    """Shows roles in docstrings as code, and ``::`` before a block as one colon, since Markdown knows neither."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            plain = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)(^|\w)::$", lambda found: found[1] and f"{found[1]}:", plain)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages behind those that mkdocs.yml names."""
    pages: list[Any] = ["reference/index.md"]
    for top in TOPS:
        pages.append({top: [{package: _page(package)} for package in _packages(top)]})
    config.nav = [*(config.nav or []), {"API": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the pages."""
    index = INDEX
    for top in TOPS:
        for package, modules in _packages(top).items():
            text = "".join(f"::: {module}\n" for module in modules)
            files.append(File.generated(config, _page(package), content=f"# {package}\n\n{text}"))
            index += f"| [{package}]({package}.md) | {_about(package)} |\n"
    files.append(File.generated(config, "reference/index.md", content=index))
    return files


def _packages(top: str) -> dict[str, list[str]]:
    """The packages below ``top`` and the modules of each, the package itself first."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if any((part.startswith("_") and part != "__init__") or part in LEFT_OUT for part in parts):
            continue
        package = ".".join(parts[:-1])
        if parts[-1] == "__init__":
            found.setdefault(package, []).insert(0, package)
        else:
            found.setdefault(package, []).append(".".join(parts))
    return dict(sorted(found.items()))


def _page(package: str) -> str:
    return f"reference/{package}.md"


def _about(package: str) -> str:
    """The first line of the package's docstring."""
    text = (ROOT.joinpath(*package.split(".")) / "__init__.py").read_text(encoding="utf-8")
    line = re.match(r'"""(.+?)(?:"""|\n)', text)
    return ROLE.sub(r"`\1`", line[1]).replace("|", "\\|") if line else ""
