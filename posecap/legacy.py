"""Names of posecap 0.1 that files and people still use, and the present names that replace them.

Everything that was renamed since 0.1.0 is in the tables, one line each. Old names are read with the functions below:

* :func:`upgraded`, :func:`upgraded_record` and :func:`upgraded_facts` replace the old names in stored configurations,
  in records of outcomes, and in samples' facts. :func:`as_format_1` does the reverse for a configuration: fingerprints
  are taken over the names of 0.1, so that a new name changes none.
* :func:`translated` replaces the old names in the syntax tree of a pipeline file, with a hint for each.
* :func:`pipeline_file` gives the file that replaced a pipeline file which no longer exists.
* :func:`moved_module` lets programs import a module by its former name (:class:`posecap.FormerNames`).
"""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from posecap.builtin import pipelines

MODULES: Mapping[str, str] = {
    "posecap.batch": "posecap.stream",
    "posecap.cleanup": "posecap.removal",
    "posecap.download.byte_ranges": "posecap.engines.ytdlp",
    "posecap.download.host_limits": "posecap.download.retry",
    "posecap.engines.ultralytics_trackers": "posecap.engines.ultralytics",
    "posecap.engines.viclip_tokens": "posecap.engines.viclip_model",
    "posecap.explore.maps": "posecap.explore.contents",
    "posecap.explore.serve": "posecap.explore.page",
    "posecap.fetching.archives": "posecap.download.package_index",
    "posecap.fetching.content": "posecap.download.file_type",
    "posecap.fetching.download_meter": "posecap.progress",
    "posecap.fetching.landing": "posecap.files",
    "posecap.fetching.pace": "posecap.download.retry",
    "posecap.fetching.patience": "posecap.download.retry",
    "posecap.fetching.registry": "posecap.download.package_index",
    "posecap.fetching.span_download": "posecap.engines.ytdlp",
    "posecap.fetching.web": "posecap.download.http",
    "posecap.fetching.youtube": "posecap.download.youtube",
    "posecap.footage.clock": "posecap.video",
    "posecap.footage.shots": "posecap.video",
    "posecap.footage.take": "posecap.video",
    "posecap.identity": "posecap.files",
    "posecap.inference.answers": "posecap.engines.transformers_captioner",
    "posecap.inference.around_people": "posecap.inference.crops",
    "posecap.inference.batching": "posecap.inference.device",
    "posecap.inference.clip_text": "posecap.inference.embedding",
    "posecap.inference.frame_choice": "posecap.inference.crops",
    "posecap.inference.onnx_detector": "posecap.inference.onnx",
    "posecap.inference.onnx_session": "posecap.inference.onnx",
    "posecap.inference.openmmlab": "posecap.inference.package_compat",
    "posecap.inference.remembered": "posecap.inference.embedding",
    "posecap.inference.resampling": "posecap.inference.onnx",
    "posecap.inference.top_down": "posecap.inference.crops",
    "posecap.inference.torchvision_ops": "posecap.inference.package_compat",
    "posecap.inference.ultralytics_settings": "posecap.inference.package_compat",
    "posecap.ports": "posecap.interfaces",
    "posecap.shards.layout": "posecap.shards.paths",
    "posecap.skeletons.oks": "posecap.skeletons",
    "posecap.skeletons.quality": "posecap.skeletons",
    "posecap.stages.cut": "posecap.stages.decode",
    "posecap.stages.embed": "posecap.stages.pack",
    "posecap.stages.select": "posecap.stages.filter_people",
    "posecap.stages.skeleton": "posecap.stages.pose",
    "posecap.stages.split": "posecap.stages.decode",
    "posecap.stages.track": "posecap.stages.pose",
    "posecap.visualization.describe": "posecap.visualization.view",
    "posecap.weights.torch_file": "posecap.weights.checkpoints",
}
"""Modules that a pipeline file or a program may import: former name → present name, as in all tables below."""

PIPELINES: Mapping[str, str] = {"demo.py": "default.py"}
"""Pipeline files, which manifests name."""

CLASSES: Mapping[str, str] = {
    "AskedToWait": "RetryAfter",
    "BadCheckpoint": "CheckpointError",
    "Cut": "Split",
    "DecoderGaveUp": "DecoderGaveUpError",
    "Drop": "Reject",
    "Fail": "PermanentError",
    "Manners": "HttpOptions",
    "Meter": "DownloadProgress",
    "MissingWeights": "MissingWeightsError",
    "NoSuchDevice": "DeviceError",
    "Patience": "RetryPolicy",
    "RandomWeights": "RandomWeightsError",
    "Refused": "Rejected",
    "Remembered": "EmbeddingCache",
    "Retry": "TransientError",
    "Select": "FilterPeople",
    "Sight": "PersonCrop",
    "Take": "FrameBuffer",
    "Thinner": "FrameRateLimiter",
    "Transfer": "HttpDownload",
    "WrongArchitecture": "WrongArchitectureError",
    "WrongHash": "HashMismatchError",
    "around_people": "people_region",
    "frames_of": "decode_span",
    "gathered": "scatter_keypoints",
    "identity": "weights_sha256",
    "keep_span": "remux_span",
    "landing": "atomic_file",
    "normalised": "normalize",
    "on_the_videos_clock": "shift_media",
    "persist": "retry",
    "refusal": "youtube_error",
    "resized": "resize",
    "sampled": "sample",
    "sights": "person_crops",
    "size": "frame_size",
    "take": "extract_member",
    "wait_for_turn": "wait_for_rate_limit",
    "within": "with_timeout",
}
"""Classes, exceptions and functions of posecap."""

# Arguments of all detectors, fetchers and trackers that had them.
_DETECTOR = {"score": "conf", "overlap": "iou", "long_side": "imgsz", "most_people": "max_det"}
_FETCHER = {"patience": "retry_policy"}
_TRACKER = {"sure": "track_high_thresh", "doubtful": "track_low_thresh", "lost_seconds": "track_buffer_seconds"}

KEYWORDS: Mapping[str, Mapping[str, str]] = {
    "Pipeline": {"expected_refusals": "expected_rejections"},
    "Resources": {"lanes": "concurrency"},
    **dict.fromkeys(("Http", "ObjectStore", "YtDlp"), _FETCHER),
    **dict.fromkeys(("MoveNet", "RTMDetOnnx", "Ultralytics"), _DETECTOR),
    **dict.fromkeys(("ByteTrack", "UltralyticsBoTSORT", "UltralyticsByteTrack"), _TRACKER),
}
"""Arguments, by the present name of the class that takes them."""

FIELDS: Mapping[str, Mapping[str, str]] = {"detector": _DETECTOR, "fetchers": _FETCHER, "tracker": _TRACKER}
"""Fields of an engine in a stored configuration, by the stage's field that holds the engine, such as ``detector``."""

ADDED: Mapping[str, Mapping[str, Any]] = {
    "caption": {"label_grammar": "none"},
    # 0.1 had another limit of damage instead: PyAV(damaged_at_most=15), frames in a row.
    "decode": {"most_damaged": 0.25, "signature": "none"},
    "filter_people": {"prominence": None},
}
"""Fields of stages that came after 0.1, with the value that means what 0.1 did: stored configurations without the
field have that value, and fingerprints are taken without it."""

ADDED_TO_ENGINES: Mapping[str, Mapping[str, Any]] = {"bytetrack": {"follow_back": "no"}}
"""The same of engines."""

REMOVED_FROM_ENGINES: Mapping[str, Mapping[str, Any]] = {"pyav": {"damaged_at_most": 15}}
"""Fields of engines that 0.1 had, with their defaults: fingerprints are taken as if they were still there."""

REMOVED_ARGUMENTS: Mapping[tuple[str, str], str] = {("PyAV", "damaged_at_most"): "Decode(most_damaged=…)"}
"""Arguments that a class of 0.1 took, and what does their work now. A pipeline file is read as if without them."""

STAGES: Mapping[str, str] = {"cut": "split", "select": "filter_people"}
"""Names of stages."""

STATUSES: Mapping[str, str] = {"refused": "rejected"}
"""Statuses of rows and clips."""

REASONS: Mapping[str, str] = {"no_person": "no_person_found"}
"""Reasons of rejections. A detector that finds nobody does not know that nobody is there."""

KEYS: Mapping[str, str] = {**STATUSES, "licence": "license"}
"""Keys of manifests, reports, sidecars and samples' facts, and columns of tables."""

MEMBERS: Mapping[str, str] = {
    "follow": "track",
    "places": "path_fields",
    "sees": "frame_indices",
    "threads": "thread_safe",
    "warm_up": "load",
}
"""Methods and class attributes of a stage or engine that is defined in a pipeline file."""

VALUES: Mapping[str, Mapping[str, Any]] = {
    "keeping": {"scratch": "temporary"},
    "thread_safe": {"many": True, "one": False},
}
"""Values of an argument or a class attribute, by its present name."""


@dataclass(frozen=True, slots=True)
class Hint:
    """An old name in a file (``line`` counts from 1), and the name to write now."""

    line: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.old} is {self.new} now"


def moved_module(name: str, moved: Mapping[str, str] = MODULES) -> ModuleSpec | None:
    """How to import a module by its former name, with a :class:`FutureWarning`: it is that of today. None for a name
    that is not in ``moved``. Python does not ask for modules of packages that are gone or are mere modules now."""
    new = moved.get(name)
    if new is None:
        return None
    warnings.warn(f"{name} is {new} now: import that", FutureWarning, stacklevel=3)
    return ModuleSpec(name, _Present(new))


class _Present(Loader):
    """Loads the module ``name`` of today, under whatever name it was asked for."""

    def __init__(self, name: str) -> None:
        self._module = import_module(name)
        self._spec = self._module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # in place of that of the former name; its program has run already


def hint(word: Hint, file: Path) -> None:
    """Warn the user about an old name in a file, with a :class:`FutureWarning` that points to its line."""
    warnings.warn_explicit(f"{word}: write the new word", FutureWarning, str(file), word.line)


def pipeline_file(path: Path) -> Path:
    """``path``; if no such file exists and another took its place, the latter, with a hint.

    That is a file beside it, or the package's own where ``path`` is in a folder ``pipelines`` that is not there.
    """
    new = PIPELINES.get(path.name)
    if new is None or path.is_file():
        return path
    beside, ours = path.with_name(new), pipelines().get(Path(new).stem, path)
    renamed = beside if beside.is_file() else ours if path.parent.name == "pipelines" else path
    if renamed != path:
        hint(Hint(1, f"pipeline {path.name}", new), path)
    return renamed


def translated(tree: ast.Module) -> list[Hint]:
    """Replace old names in a pipeline file's syntax tree, in place; returns what was changed, in the file's order."""
    found = _Translation()
    found.visit(tree)
    return sorted(found.hints, key=lambda hint: hint.line)


class _Translation(ast.NodeTransformer):
    """Replaces names in imports from posecap, in calls of what was imported, and in classes derived from it. Imported
    names keep what the file calls them, so that nothing else need change.
    """

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self._classes: dict[str, str] = {}  # as the file calls it: as it is called now

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level or not (node.module or "").startswith("posecap."):
            return node
        node.module = self._new(node, node.module or "", MODULES)
        for name in node.names:
            name.asname = name.asname or name.name
            name.name = self._new(node, name.name, CLASSES)
            self._classes[name.asname] = name.name
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = self._classes.get(node.func.id, "") if isinstance(node.func, ast.Name) else ""
        for keyword in [k for k in node.keywords if (called, k.arg) in REMOVED_ARGUMENTS]:
            node.keywords.remove(keyword)
            now = REMOVED_ARGUMENTS[called, str(keyword.arg)]
            self.hints.append(Hint(keyword.lineno, f"{called}({keyword.arg}=…)", now))
        known = KEYWORDS.get(called, {})
        for keyword in node.keywords:
            if keyword.arg is not None:
                keyword.arg = self._new(node, keyword.arg, known)
                self._value(keyword.arg, keyword.value)
            if keyword.arg == "expected_rejections" and isinstance(keyword.value, ast.Dict):
                for key in keyword.value.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        key.value = self._new(key, key.value, STAGES)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(base, ast.Name) and base.id in self._classes for base in node.bases):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    member.name = self._new(member, member.name, MEMBERS)
                elif isinstance(member, ast.AnnAssign | ast.Assign):
                    (target, *_) = member.targets if isinstance(member, ast.Assign) else (member.target,)
                    if isinstance(target, ast.Name):
                        target.id = self._new(member, target.id, MEMBERS)
                        self._value(target.id, member.value)
        return node

    def _value(self, name: str, value: ast.expr | None) -> None:
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value in VALUES.get(name, {}):
            old, value.value = value.value, VALUES[name][value.value]
            self.hints.append(Hint(value.lineno, f"{name}={old!r}", f"{name}={value.value!r}"))

    def _new(self, node: ast.AST, old: str, table: Mapping[str, str]) -> str:
        new = table.get(old, old)
        if new != old:
            self.hints.append(Hint(getattr(node, "lineno", 1), old, new))
        return new


def upgraded(value: Any, *, held_by: str = "") -> Any:
    """A stored configuration (JSON) with present names; ``held_by`` is the field that holds it, empty for a stage."""
    renamed = _renamed(value, FIELDS, STAGES, held_by)
    for stage in () if held_by else _stages(renamed):
        for field, meant in ADDED.get(stage["name"], {}).items():
            stage.setdefault(field, meant)
    for engine in _engines(renamed, held_by):
        for field in REMOVED_FROM_ENGINES.get(engine["name"], {}):
            engine.pop(field, None)
        for field, meant in ADDED_TO_ENGINES.get(engine["name"], {}).items():
            engine.setdefault(field, meant)
    return renamed


def upgraded_record(value: Any) -> Any:
    """A report, a sidecar's counts or a row's outcome with present names of keys, statuses, stages and reasons."""
    if isinstance(value, list):
        return [upgraded_record(item) for item in value]
    if not isinstance(value, dict):
        return value
    known = {"status": STATUSES, "kind": STATUSES, "stage": STAGES, "reason": REASONS}
    words = {**KEYS, **REASONS}  # reasons are keys where they are counted
    return {
        words.get(key, key): known[key].get(item, item)
        if key in known and isinstance(item, str)
        else upgraded_record(item)
        for key, item in value.items()
    }


def upgraded_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """A sample's facts with present keys. Changed in place: readers open tens of thousands a second."""
    for old, new in KEYS.items():
        if old in facts:
            facts[new] = facts.pop(old)
    return facts


def facts_of_format_1(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A sample's facts with the keys of 0.1."""
    old_names = _inverse(KEYS)
    return {old_names.get(key, key): value for key, value in facts.items()}


def column_of(column: str, names: Collection[str]) -> str:
    """The name of a column in a table with the columns ``names``: the old one if the table has only that."""
    return next((old for old, new in KEYS.items() if new == column and old in names and column not in names), column)


def format_1_word(column: str) -> str:
    """A column's name in 0.1, over which digests of rows are taken."""
    return next((old for old, new in KEYS.items() if new == column), column)


def as_format_1(value: Any) -> Any:
    """A pipeline's configuration with the names of 0.1."""
    value = copy.deepcopy(value)
    for stage in _stages(value):
        for field, meant in ADDED.get(stage["name"], {}).items():
            if field in stage and stage[field] == meant:
                del stage[field]
    for engine in _engines(value, ""):
        engine.update(REMOVED_FROM_ENGINES.get(engine["name"], {}))
        for field, meant in ADDED_TO_ENGINES.get(engine["name"], {}).items():
            if field in engine and engine[field] == meant:
                del engine[field]
    fields = {field: _inverse(names) for field, names in FIELDS.items()}
    return _renamed(value, fields, _inverse(STAGES), "")


def _stages(value: Any) -> list[dict[str, Any]]:
    """The stages of a pipeline's configuration, or the one stage that it is."""
    stages = value if isinstance(value, list) else [value]
    return [stage for stage in stages if isinstance(stage, dict) and isinstance(stage.get("name"), str)]


def _engines(value: Any, held_by: str) -> Iterator[dict[str, Any]]:
    """The engines in a configuration; ``held_by`` is the field that holds it, empty for a stage or a list of them."""
    if isinstance(value, list):
        for item in value:
            yield from _engines(item, held_by)
    elif isinstance(value, dict):
        if held_by and isinstance(value.get("name"), str):
            yield value
        for key, item in value.items():
            yield from _engines(item, key)


def _renamed(value: Any, fields: Mapping[str, Mapping[str, str]], stages: Mapping[str, str], held_by: str) -> Any:
    """A stored configuration with other names of stages, and of fields by the field that holds their engine."""
    if isinstance(value, list):
        return [_renamed(item, fields, stages, held_by) for item in value]
    if not isinstance(value, dict):
        return value
    known = fields.get(held_by, {})
    # A user's own engine may have fields of both names; neither is renamed then, or one would replace the other.
    names = {key: key if known.get(key) in value else known.get(key, key) for key in value}
    renamed = {names[key]: _renamed(item, fields, stages, key) for key, item in value.items()}
    if not held_by and isinstance(renamed.get("name"), str):
        renamed["name"] = stages.get(renamed["name"], renamed["name"])
    return renamed


def _inverse(table: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in table.items()}
