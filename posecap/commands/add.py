"""``posecap add``: vectors of further models, and captions of further captioners, for a dataset that is built."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from posecap.commands.datasets import add_dataset, only_dataset
from posecap.terminal import (
    COMPLETE,
    INTERRUPTED,
    PARTIAL,
    USAGE,
    Commands,
    at_least_one,
    command,
    count_text,
    without_collection,
)

if TYPE_CHECKING:
    from posecap.enrichment import Enriched
    from posecap.shards.extra import Kind

_MORE = """\
MODEL is minilm (for texts), efficientnet-lite0 (video), viclip-b16, viclip-l14 or clip-vit-b16 (both), or a pipeline,
by a name of `posecap pipeline list` or its file: then what the pipeline makes such vectors with (its stage Embed),
or each of its captioners (WriteCaptions).

A member that is added is called by its kind and name, as text.minilm, by which readers ask for it:
posecap.open(DATASET, fields=["joints", "text.minilm"]). The samples stay as they are, byte for byte. The command can be
stopped at any moment, and goes on where it stopped when it is given again; so it does after rows were added.
exit codes: 0 complete, 1 error, 2 wrong usage, 3 some clips have none, 130 interrupted
"""
_VICLIP: Final = ("posecap.engines.viclip", "ViCLIPEmbedder")
MODELS: Final[dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]]] = {
    "minilm": ("posecap.engines.minilm", "MiniLM", {}, ("text",)),
    "efficientnet-lite0": ("posecap.engines.efficientnet", "EfficientNetLite0Onnx", {"frames": 8}, ("video",)),
    "viclip-b16": (*_VICLIP, {"weights_from": "viclip-b16"}, ("text", "video")),
    "viclip-l14": (*_VICLIP, {"weights_from": "viclip-l14"}, ("text", "video")),
    "clip-vit-b16": ("posecap.engines.open_clip", "OpenClip", {}, ("text", "video")),
}
"""Models by name: module, class and arguments of the engine, and the kinds of member that it makes."""
_FIELDS: Final = {"text": "text", "video": "video", "captions": "captioners"}
"""The field of a pipeline's stages that has the engines of each kind."""


class ModelChoiceError(ValueError):
    """What is to be added is not known; the message says what can be."""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command."""
    about = "add vectors of another model, or captions of another captioner, to a dataset that is built"
    parser = command(commands, "add", _add, about=about, more=_MORE)
    add_dataset(parser)
    option = parser.add_argument
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "MODEL"}
    option("--texts", help="a vector of each caption; no video is read", **several)
    option("--video", help="a vector of each clip's frames; videos are fetched and decoded again", **several)
    about = "captions of a pipeline's captioners, which go on from stored results where the dataset has them"
    option("--captions", help=about, **several)
    name = "what the member is called, instead of by its model; for one member"
    option("--name", metavar="NAME", help=name)
    about = "that the dataset was built from, for --video and --captions (default: the recorded one)"
    option("--manifest", type=Path, metavar="FILE", help=about)
    option("--replace", action="store_true", help="make a member anew where something else made it")
    option("--retry-failed", action="store_true", help="try clips again that have none")
    runners = "Ray actors, or threads of this process (default: %(default)s)"
    option("--runner", choices=("ray", "local"), default="ray", help=runners)
    option("--workers", type=at_least_one, metavar="N", help="workers, over all nodes (default: all cores, or GPUs)")
    option("--address", metavar="ADDRESS", help="of a running Ray cluster, such as auto or ray://head:10001")
    shapes = "how progress is shown on stderr, as by `posecap build` (default: %(default)s)"
    option("--progress", choices=("auto", "bar", "plain", "json", "none"), default="auto", help=shapes)


@dataclass(frozen=True)
class _Wanted:
    """An engine, the kind of member that it makes, and the member's name."""

    kind: Kind
    name: str
    engine: Any


def _add(options: argparse.Namespace) -> int:
    """Add one member after the other; returns the exit code."""
    if options.address and options.runner == "local":
        print("posecap: --address is for --runner ray", file=sys.stderr)
        return USAGE
    # Captions first: vectors of texts cover them.
    asked: list[tuple[Kind, list[str]]] = [
        ("captions", options.captions),
        ("text", options.texts),
        ("video", options.video),
    ]
    if not any(words for _, words in asked):
        print("posecap: say what to add, by --texts, --video or --captions", file=sys.stderr)
        return USAGE
    root = only_dataset(options)
    wanted = [one for kind, words in asked for word in words for one in _engines(kind, word)]
    if options.name is not None and len(wanted) > 1:
        print("posecap: --name is for one member: give the command once for each", file=sys.stderr)
        return USAGE
    with without_collection():
        from posecap.build import Options, add_member
        from posecap.shards.extra import MemberName

    chosen = Options(
        runner=options.runner,
        workers=options.workers,
        address=options.address,
        retry=() if options.retry_failed else None,
        progress=options.progress,
    )
    code = COMPLETE
    for one in wanted:
        try:
            done = add_member(
                root,
                MemberName(one.kind, one.name if options.name is None else options.name),
                one.engine,
                manifest=options.manifest,
                existing="replace" if options.replace else "refuse",
                options=chosen,
            )
        except KeyboardInterrupt:
            print("\nstopped; what is done is kept, and the same command goes on", file=sys.stderr)
            return INTERRUPTED
        for line in _lines(done):
            print(line)
        code = PARTIAL if done.missing else code
    return code


def _lines(done: Enriched) -> Iterator[str]:
    """What became of a member, for people."""
    made = f"{count_text(done.parts, 'part')} made" if done.parts else "all of it is there; nothing to do"
    yield f"{done.member}: {count_text(done.samples, 'clip')}, {made}"
    if done.missing:
        counted = ", ".join(f"{reason} {count:,}" for reason, count in done.missing.items())
        yield f"{sum(done.missing.values()):,} of them have none: {counted}; --retry-failed tries them again"
    if done.parts:
        yield "run `posecap build` again for a report and a card that name it"


def _engines(kind: Kind, word: str) -> Iterator[_Wanted]:
    """The engines that a word of the command line names.

    Raises:
        ModelChoiceError: there is no such model or pipeline, or it has none of the kind.
    """
    from posecap.builtin import pipeline_path
    from posecap.pipeline import load_pipeline

    if word in MODELS:
        module, name, arguments, kinds = MODELS[word]
        if kind not in kinds:
            able = ", ".join(name for name, (*_, kinds) in MODELS.items() if kind in kinds) or "none of them"
            raise ModelChoiceError(f"{word} makes no {kind}; {able} does, or name a pipeline")
        yield _Wanted(kind, word, getattr(import_module(module), name)(**arguments))
        return
    path = pipeline_path(word, Path.cwd())
    if not path.is_file():
        raise ModelChoiceError(f"there is no model {word!r} ({', '.join(MODELS)}), and no pipeline of that name")
    found: list[Any] = []
    for stage in load_pipeline(path).stages:
        engines = getattr(stage, _FIELDS[kind], ())
        found += engines if isinstance(engines, tuple) else [engines]
    if not found:
        raise ModelChoiceError(f"{path} has nothing that makes {kind} (a stage with the field {_FIELDS[kind]!r})")
    for engine in found:
        yield _Wanted(kind, _member_name(engine.name), engine)


def _member_name(name: str) -> str:
    """The name of an engine as that of a member: in its characters, and no longer than it may be
    (:class:`posecap.shards.extra.MemberName`)."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:48] or "model"
