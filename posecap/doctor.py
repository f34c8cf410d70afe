"""What this machine can build with: ``posecap doctor`` looks at packages, weights, decoders, GPU, Ray and disk.

Nothing is downloaded, and no model is loaded. Each finding that stands in the way of a build names its remedy.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from posecap import __version__
from posecap.builtin import pipeline_path
from posecap.download.package_index import cache_folder
from posecap.models import SHA256_DIGITS, cached, find_in_folder, is_offline
from posecap.pipeline import Pipeline, PipelineError, load_pipeline
from posecap.run.local import cores
from posecap.stage import Engine, engines_of
from posecap.weights.registry import REGISTRY

State = Literal["good", "note", "missing"]
"""``missing`` stands in the way of a build by the pipeline that was asked about; ``note`` does not."""

_LOW_DISK_BYTES = 5 * 10**9
"""Below it a folder gets a note. Our choice: the demo writes 20 MB, and a thousand clips with video some 2 GB."""
_SHARED_MEMORY_BYTES = 1 << 30
"""Below it Ray keeps its objects in /tmp instead and warns: docs of Ray, "object_store_memory"; containers start with
64 MB unless ``--shm-size`` is given."""
_EXTRAS = {
    "build": ("av", "PIL", "jinja2", "scipy", "ai_edge_litert", "onnxruntime", "tokenizers", "ray"),
    "train": ("scipy", "tensorboard", "matplotlib", "jinja2", "onnx", "onnxruntime"),
    "ultralytics": ("ultralytics", "lap"),
    "mmpose": ("mmpose", "mmdet", "mmengine", "mmcv"),
    "clip": ("open_clip", "torchvision", "safetensors"),
    "transformers": ("transformers", "safetensors", "torchvision", "scipy"),
    "caption": ("transformers", "safetensors", "torchvision", "num2words"),
    "youtube": ("yt_dlp",),
    "torchcodec": ("torchcodec",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "hub": ("huggingface_hub",),
    "faiss": ("faiss",),
    "lance": ("lance",),
    "rerun": ("rerun",),
}
"""Modules by which an extra of pyproject.toml is recognised as installed."""
_VARIABLES = ("POSECAP_CACHE", "POSECAP_WEIGHTS", "POSECAP_OFFLINE", "NO_COLOR")
"""Variables of the environment that change what commands do."""
_SECRET_VARIABLES = ("HF_ENDPOINT", "HF_TOKEN", "RAY_ADDRESS")
"""The same, whose values may hold a password or are one: only that they are set is shown."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: State
    says: str
    remedy: str = ""
    """What to type or change; empty where nothing has to be done."""


def examine(pipeline: str, output: Path) -> list[Finding]:
    """Look at this machine.

    Args:
        pipeline: a name of ``posecap pipeline list``, or a path: whose engines and weights have to be here.
        output: where datasets would be written; it need not exist.
    """
    findings = [*_machine(), *_disk(output)]
    try:
        loaded = load_pipeline(pipeline_path(pipeline, Path()))
    except (PipelineError, ImportError) as error:
        remedy = "pip install 'posecap[build]'" if isinstance(error, ModuleNotFoundError) else ""
        findings.append(Finding(about=f"pipeline {pipeline}", state="missing", says=str(error), remedy=remedy))
    else:
        findings += [*_engines(loaded), *_weights(loaded)]
    return [*findings, *_gpu(), *_ray(), *_extras(), *_environment()]


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print a line for each finding, remedies below theirs."""
    words = {"good": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(words[finding.state], escape(finding.about), escape(finding.says))
        if finding.remedy:
            table.add_row("", "", escape(f"→ {finding.remedy}"))
    console.print(table)


def _machine() -> Iterator[Finding]:
    """Versions, cores and memory."""
    system = f"{platform.system()} {platform.machine()}"
    yield Finding(about="posecap", state="good", says=f"{__version__}, Python {platform.python_version()}, {system}")
    memory = _memory_bytes()
    says = f"{cores()} cores for this process" + (f", {memory / 1e9:.0f} GB of memory" if memory else "")
    yield Finding(about="machine", state="good", says=says)


def _memory_bytes() -> int | None:
    """Physical memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _disk(output: Path) -> Iterator[Finding]:
    """The folders that builds write to: whether they can be written, and what is free there."""
    places = {"output": (output, "--output"), "cache": (cache_folder(), "POSECAP_CACHE")}
    places["scratch"] = (Path(tempfile.gettempdir()), "TMPDIR")
    for name, (folder, setting) in places.items():
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        remedy = f"name another folder with {setting}"
        if not os.access(there, os.W_OK):
            yield Finding(about=name, state="missing", says=f"{folder} cannot be written", remedy=remedy)
            continue
        free = shutil.disk_usage(there).free
        low = free < _LOW_DISK_BYTES
        says = f"{folder}, {free / 1e9:,.1f} GB free"
        yield Finding(about=name, state="note" if low else "good", says=says, remedy=remedy if low else "")


def _engines(pipeline: Pipeline) -> Iterator[Finding]:
    """Each engine of a pipeline once: its packages, and whether its modules can be found."""
    seen = set()
    for stage in pipeline.stages:
        for engine in engines_of(stage):
            if engine.name not in seen and (engine.packages or engine.modules):
                seen.add(engine.name)
                yield _engine(engine.name, engine)


def _engine(about: str, engine: Engine) -> Finding:
    """Its packages; an engine without weights is loaded as well, which finds shared libraries that do not load."""
    absent = [module for module in engine.modules if importlib.util.find_spec(module) is None]
    versions = {package: _version(package) for package in engine.packages}
    lacking = [package for package, version in versions.items() if version is None]
    extra = engine.extra or "build"
    remedy = f"pip install 'posecap[{extra}]'"
    if absent or (lacking and not engine.modules):
        # decord has no wheels for some machines, and PyAV, which stands after it, decodes everything.
        state: State = "note" if engine.name == "decord" else "missing"
        return Finding(about=about, state=state, says=f"not installed: {', '.join(absent or lacking)}", remedy=remedy)
    try:
        if not engine.weights:
            engine.load()
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(about=about, state="missing", says=f"does not load: {error}")
    return Finding(
        about=about, state="good", says=", ".join(f"{p} {v}" for p, v in versions.items() if v) or "installed"
    )


def _version(package: str) -> str | None:
    """Of an installed distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _weights(pipeline: Pipeline) -> Iterator[Finding]:
    """Each file of weights that a pipeline needs: whether it is here. Hashes are not computed (``models verify``)."""
    needed = dict.fromkeys(name for stage in pipeline.stages for engine in engines_of(stage) for name in engine.weights)
    folders = [Path(folder) for folder in os.environ.get("POSECAP_WEIGHTS", "").split(os.pathsep) if folder]
    for name in needed:
        weights = REGISTRY.get(name)
        if weights is None:
            here = Path(name).expanduser().is_file()
            says = "your own file" if here else "no such file"
            yield Finding(about=f"weights {name}", state="good" if here else "missing", says=says)
            continue
        about, size = f"weights {name}", f"{weights.size_bytes / 1e6:,.1f} MB, {weights.license}"
        if cached(weights) or any(find_in_folder(weights, folder) for folder in folders):
            hashed = "" if len(weights.sha256) == SHA256_DIGITS else ", hash recorded at first use"
            yield Finding(about=about, state="good", says=f"here ({size}{hashed})")
        elif is_offline():
            remedy = f"on a machine with a network: posecap models pull {name}; then name its folder in POSECAP_WEIGHTS"
            says = f"not here ({size}), and POSECAP_OFFLINE forbids downloads"
            yield Finding(about=about, state="missing", says=says, remedy=remedy)
        else:
            says = f"not here yet ({size}); the first build downloads it from {' or '.join(weights.sources)}"
            yield Finding(about=about, state="note", says=says, remedy=f"now: posecap models pull {name}")


def _gpu() -> Iterator[Finding]:
    """GPUs that torch sees; a note where there is a driver and torch sees none."""
    import torch

    build = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            says = f"{found.name}, {found.total_memory / 1e9:.0f} GB; {build}"
            yield Finding(about=f"GPU {index}", state="good", says=says)
    elif shutil.which("nvidia-smi"):
        why = "is built without CUDA" if torch.version.cuda is None else f"is built for CUDA {torch.version.cuda}"
        remedy = "compare the driver's CUDA in nvidia-smi with torch's, and install a torch that fits: pytorch.org"
        says = f"there is nvidia-smi, but {build}, which {why}, sees no GPU"
        yield Finding(about="GPU", state="note", says=says, remedy=remedy)
    else:
        yield Finding(about="GPU", state="good", says=f"none; {build}; the default pipeline needs none")


def _ray() -> Iterator[Finding]:
    """Whether Ray is installed, and has shared memory."""
    version = _version("ray")
    if version is None:
        remedy = "pip install 'posecap[build]'; without it: posecap build --runner local"
        yield Finding(about="Ray", state="note", says="not installed", remedy=remedy)
        return
    yield Finding(about="Ray", state="good", says=version)
    shared = Path("/dev", "shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < _SHARED_MEMORY_BYTES:
        says = f"{shared} has {size / 1e6:,.0f} MB: Ray keeps objects on disk instead"
        yield Finding(about="Ray", state="note", says=says, remedy="in a container: docker run --shm-size=2g …")


def _extras() -> Iterator[Finding]:
    """Which extras of posecap are installed. Modules are looked for, not imported."""
    here: list[str] = []
    absent: list[str] = []
    for extra, modules in _EXTRAS.items():
        lacking = [module for module in modules if importlib.util.find_spec(module) is None]
        (absent if lacking else here).append(extra)
    yield Finding(about="extras", state="good", says=f"installed: {', '.join(here) or 'none'}")
    if absent:
        says = f"not installed: {', '.join(absent)}"
        yield Finding(
            about="extras", state="good", says=says, remedy="pip install 'posecap[NAME]', where one is wanted"
        )


def _environment() -> Iterator[Finding]:
    """Variables that are set, and whether packages have an environment of their own."""
    says = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    says += [f"{name} is set" for name in _SECRET_VARIABLES if os.environ.get(name)]
    if says:
        yield Finding(about="environment", state="good", says=", ".join(says))
    if sys.prefix == sys.base_prefix and not os.environ.get("CONDA_PREFIX"):
        remedy = "python -m venv .venv && . .venv/bin/activate, if packages get in one another's way"
        yield Finding(about="environment", state="good", says="no virtual environment", remedy=remedy)
