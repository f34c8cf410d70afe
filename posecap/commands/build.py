"""``posecap plan``, ``posecap build`` and ``posecap select``; ``posecap manifest``, which makes a manifest from a
folder or list; and ``posecap add``, which adds vectors of further models, and captions of further captioners, to a
dataset that is built."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from posecap.commands.datasets import add_dataset, only_dataset
from posecap.terminal import (
    ALARM,
    COMPLETE,
    ERROR,
    INTERRUPTED,
    PARTIAL,
    USAGE,
    Commands,
    at_least_one,
    command,
    count_text,
    without_collection,
    without_pandas,
)

if TYPE_CHECKING:
    from posecap.enrichment import Enriched
    from posecap.selection import Selection
    from posecap.shards.extra import Kind


_MORE = """\
A build can be stopped at any moment, by Ctrl-C or kill -9: the same command goes on, row by row, where it stopped.
A finished build does nothing. If the pipeline or manifest has changed, the command stops and says what changed.
exit codes: 0 complete, 1 error, 2 wrong usage, 3 some rows or clips failed, 4 a stage or a label lost far more than
expected, 130 interrupted
"""
_SELECT_MORE = """\
Nothing is built or changed. Settings are those of the stages behind the joints: filters of people and clips, smoothing,
layout. The dataset must have been built with 'keep_intermediates: perception' in its manifest, which is the default, or
'all'.
examples:
  posecap select --manifest mine.yaml --set person_presence=0.3 --sheet changed.jpg
  posecap select datasets/mine --set filter_people.motion=0.01 --set people=1
  posecap select datasets/mine --filter 'jitter < 0.02'
exit codes: 0 whatever changes, 1 error, as where nothing is stored, 2 wrong usage
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``plan``, ``build``, ``select``, ``manifest`` and ``add``."""
    about = "build the dataset that a manifest describes, or finish building it"
    plan = command(commands, "plan", _plan, about="print what a build would do, without building")
    build = command(commands, "build", _build, about=about, more=_MORE)
    for parser in (plan, build):
        about = "the dataset's YAML, or the name of one that comes with posecap, as demo"
        parser.add_argument("--manifest", required=True, metavar="FILE", help=about)
        about = "dataset directory, or address as s3://bucket/name (default: the manifest's)"
        parser.add_argument("--output", metavar="DIR", help=about)
    option = build.add_argument
    runners = "Ray actors, or threads of this process (default: %(default)s)"
    option("--runner", choices=("ray", "local"), default="ray", help=runners)
    workers = "computing workers, over all nodes (default: all cores, or all GPUs)"
    option("--workers", type=at_least_one, metavar="N", help=workers)
    option("--address", metavar="ADDRESS", help="of a running Ray cluster, such as auto or ray://head:10001")
    reasons = (
        "also run rows again that failed for a passing reason, or those that ended for these reasons (not_found …); "
        "rows of which a clip was kept stay as they are"
    )
    option("--retry-failed", nargs="?", const="", metavar="REASON,…", help=reasons)
    option("--update", action="store_true", help="rebuild the parts that a changed manifest or pipeline touches")
    kept = (
        "what to store so that a later build goes on from it, in place of what the manifest says: what is found in "
        "frames, or all, sentences of captioners as well, or none"
    )
    option("--keep-intermediates", choices=("all", "perception", "none"), help=kept)
    longest = (
        "longest time for one row, in seconds above 0, after which it is stopped (default: 3600); not with --runner "
        "local, whose threads cannot be stopped"
    )
    option("--row-seconds", type=float, metavar="S", help=longest)
    accepted = "end with 0 (or 3) although a stage or a label lost far more than expected; without this, with 4"
    option("--accept-alarms", action="store_true", help=accepted)
    shapes = (
        "how progress is shown on stderr: a bar, lines of words or JSON lines every 30 s, or not at all (default: a "
        "bar on a terminal, json elsewhere); NO_COLOR=1 turns colours off"
    )
    option("--progress", choices=("auto", "bar", "plain", "json", "none"), default="auto", help=shapes)
    quiet = "neither progress nor the table at the end; alarms and errors are printed all the same"
    option("--quiet", action="store_true", help=quiet)
    metrics = "also write metrics here in Prometheus' text format, as for node_exporter (FILE.prom)"
    option("--metrics-file", type=Path, metavar="FILE", help=metrics)

    about = "count which clips other thresholds would keep, from what is stored of a dataset, in seconds"
    select = command(commands, "select", _select, about=about, more=_SELECT_MORE)
    add_dataset(select, otherwise="the manifest's")
    select.set_defaults(output=None)
    option = select.add_argument
    about = "the dataset's YAML, or the name of one that comes with posecap (default: the one the dataset is from)"
    option("--manifest", metavar="FILE", help=about)
    about = "a setting of a stage behind the joints, as person_presence=0.3; may be given several times"
    option("--set", action="append", default=[], metavar="NAME=VALUE", help=about)
    about = "select with another pipeline: a name of `posecap pipeline list`, or a file"
    option("--pipeline", metavar="FILE", help=about)
    option("--filter", metavar="CONDITION", help="select with another filter of clips than the manifest's")
    option("--sheet", type=Path, metavar="FILE", help="also draw clips that change side, as .jpg or .png")
    option("--count", type=at_least_one, default=24, help="clips on the sheet (default: %(default)s)")
    about = "look at about so many rows, whole parts evenly over all (default: %(default)s)"
    option("--rows", type=at_least_one, default=10_000, metavar="N", help=about)
    option("--json", action="store_true", help="print counts and every clip that changes side as JSON")

    kinds = commands.add_parser("manifest", help="make a manifest from the field's usual inputs").add_subparsers(
        metavar="KIND", required=True
    )
    about = "a manifest from a Kinetics list (label, youtube_id, time_start, time_end, split)"
    kinetics = command(kinds, "kinetics", _manifest, about=about)
    kinetics.add_argument("file", type=Path, metavar="FILE.csv", help="the list")
    videos = "folder of the downloaded clips, under their usual names (default: take them from YouTube)"
    kinetics.add_argument("--videos", type=Path, metavar="DIR", help=videos)
    folder = command(kinds, "folder", _manifest, about="a manifest from a folder of videos; sub-folders are labels")
    folder.add_argument("folder", type=Path, metavar="DIR")
    about = (
        "divide the videos among train, val and test by these shares, as 0.7/0.15/0.15, each label by itself; with "
        "--overwrite, videos that the table has keep their splits"
    )
    folder.add_argument("--split", type=_ratios, metavar="SHARES", help=about)
    about = "with --split: videos stay together in whose paths a regular expression finds the same, as 'person\\d+'"
    folder.add_argument("--group-by", type=_expression, metavar="REGEX", help=about)
    folder.add_argument(
        "--split-seed", type=int, default=0, metavar="N", help="with --split: another divides otherwise"
    )
    youtube = "default with --videos, else posecap_1m, which fetches from YouTube"
    for kind, named, pipeline in ((kinetics, "FILE-poses.yaml", youtube), (folder, "DIR.yaml", "default")):
        option = kind.add_argument
        output = f"the manifest to write, its table beside it (default: {named} in the current folder)"
        option("--output", type=Path, metavar="FILE.yaml", help=output)
        about = f"a name of `posecap pipeline list`, or a file (default: {pipeline})"
        option("--pipeline", metavar="FILE", help=about)
        option("--overwrite", action="store_true", help="replace files that exist already")
    _add_enrichment(commands)


def _ratios(text: str) -> tuple[tuple[str, float], ...]:
    """Parse an argument that is shares of splits."""
    from posecap.manifest.manifest_file import split_ratios

    try:
        return split_ratios(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _expression(text: str) -> re.Pattern[str]:
    """Parse an argument that is a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def missing_package(error: ModuleNotFoundError) -> str:
    """The error with the extra to install; engines' own errors name theirs."""
    if "posecap[" in str(error):
        return str(error)
    return f"{error.name} is not installed; to build, run pip install 'posecap[build]'"


def _build(options: argparse.Namespace) -> int:
    if options.address and options.runner == "local":
        print("posecap: --address is for --runner ray", file=sys.stderr)
        return USAGE
    if options.row_seconds is not None and options.runner == "local":
        print("posecap: --row-seconds is for --runner ray: threads cannot be stopped", file=sys.stderr)
        return USAGE
    with without_collection():
        without_pandas()
        from rich.console import Console

        from posecap.build import Options, build
        from posecap.release.report import show

    retry = None if options.retry_failed is None else tuple(r for r in options.retry_failed.split(",") if r)
    chosen = Options(
        runner=options.runner,
        workers=options.workers,
        address=options.address,
        retry=retry,
        on_change="update" if options.update else "refuse",
        progress="none" if options.quiet else options.progress,
        keep_intermediates=options.keep_intermediates,
        metrics_file=options.metrics_file,
    )
    if options.row_seconds is not None:
        chosen = replace(chosen, row_seconds=options.row_seconds)
    try:
        built = build(_manifest_path(options), output=_output(options), options=chosen)
    except KeyboardInterrupt:
        print("\nstopped; finished parts and rows are kept. The same command resumes the build:", file=sys.stderr)
        print(f"  posecap {shlex.join(sys.argv[1:])}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # without waiting for worker threads, which may be in the middle of a video
    if not options.quiet:
        show(built.report, Console())
        here = f"{Path.cwd()}{os.sep}"
        print(f"dataset: {built.location.removeprefix(here)}")
    code = built.exit_code_without_alarms
    if code == PARTIAL:
        print(
            "some rows or clips failed: `posecap status --failed` lists them; `posecap build --retry-failed …` tries "
            "rows of which no clip was kept again"
        )
    if built.exit_code == ALARM and not options.accept_alarms:
        print(
            "the alarms above need a look before the dataset is used; if they are as they should be, state it as "
            "expected_rejections in the pipeline, or end this command with 0 by --accept-alarms"
        )
        return ALARM
    return code


def _manifest_path(options: argparse.Namespace) -> Path:
    """The manifest that is asked for: a file, or one of posecap's by its name.

    Raises:
        ManifestError: it is neither.
    """
    from posecap.builtin import manifests, nearest_manifest
    from posecap.manifest.manifest_file import ManifestError

    path = manifests().get(options.manifest) or Path(options.manifest)
    if not path.exists():
        raise ManifestError(f"no manifest file at {path}; {nearest_manifest(options.manifest)}")
    return path


def _output(options: argparse.Namespace) -> str | Path | None:
    """The dataset's directory where the manifest's own does not count: a manifest of posecap builds here."""
    from posecap.builtin import manifests

    here = Path("datasets", options.manifest) if options.manifest in manifests() else None
    return options.output or here


def _plan(options: argparse.Namespace) -> int:
    import tempfile

    from rich.console import Console

    from posecap.duplicates import read_groups
    from posecap.manifest.manifest_file import read_manifest
    from posecap.pipeline import PipelineError
    from posecap.plan import PLAN_FILE, make_plan
    from posecap.plan_check import forecast, show_forecast, show_summary, summarise
    from posecap.plan_store import fetch_plan, output_storage

    manifest, console = read_manifest(_manifest_path(options)), Console()
    with tempfile.TemporaryDirectory(prefix="posecap-plan-") as folder:
        storage = output_storage(_output(options), manifest)
        near = read_groups(storage)
        plan = make_plan(manifest, Path(folder) / PLAN_FILE, built=fetch_plan(storage), near=near)
        try:
            from posecap.build import pipeline_of

            pipeline = pipeline_of(manifest)
        except (PipelineError, ModuleNotFoundError) as error:  # the plan itself needs no pipeline
            show_summary(summarise(plan, store_video=manifest.store_video), console)
            why = missing_package(error) if isinstance(error, ModuleNotFoundError) else error
            print(f"posecap: what a build would reject is not known: {why}", file=sys.stderr)
            return ERROR
        found = forecast(manifest, plan, pipeline, output=_output(options))
        show_summary(summarise(plan, store_video=manifest.store_video, open_seconds=found.mean_seconds), console)
        show_forecast(found, console)
    return COMPLETE


def _select(options: argparse.Namespace) -> int:
    from posecap.build import pipeline_of
    from posecap.builtin import pipeline_path
    from posecap.finalize import read_manifest_path
    from posecap.manifest.manifest_file import read_manifest
    from posecap.plan_store import output_storage
    from posecap.selection import select, selectable, with_settings

    if options.manifest is None or options.dataset is not None:
        storage = only_dataset(options)
        selectable(storage)  # of one that has nothing to select from, the manifest need not be known
        path = read_manifest_path(storage) if options.manifest is None else _manifest_path(options)
        if path is None:
            where = f"it is not known which manifest {storage.location} is from"
            print(f"posecap: {where}: name it with --manifest", file=sys.stderr)
            return ERROR
        manifest = read_manifest(path)
    else:
        manifest = read_manifest(_manifest_path(options))
        storage = output_storage(_output(options), manifest)
    if options.pipeline:
        manifest = replace(manifest, pipeline=pipeline_path(options.pipeline, Path.cwd()))
    if options.filter is not None:
        manifest = replace(manifest, filter=options.filter)
    found = select(storage, with_settings(pipeline_of(manifest), options.set), most_rows=options.rows)
    if options.json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        print("\n".join(_selection_lines(found)))
    if options.sheet and (found.changed or not options.json):
        sheet = found.sheet(options.sheet, count=options.count)
        print(f"{sheet.path}: {count_text(sheet.clips, 'clip')}", file=sys.stderr if options.json else sys.stdout)
    return COMPLETE


def _selection_lines(found: Selection) -> Iterator[str]:
    """What `posecap select` prints."""
    looked = f"{count_text(found.rows, 'row')} of {found.parts:,} of {count_text(found.parts_in_all, 'part')}"
    yield f"{count_text(found.clips, 'clip')} in {looked}"
    yield f"{'now':>10}{'then':>10}{'change':>10}  clips"
    ends = sorted(found.today.keys() | found.then.keys(), key=lambda end: (end != "kept", -found.then[end], end))
    for end in ends:
        now, then = found.today[end], found.then[end]
        yield f"{now:>10,}{then:>10,}{then - now:>+10,}  {end}"
    gained = sum(clip.then == "kept" for clip in found.changed)
    yield f"{gained:,} would be kept that are not, {len(found.changed) - gained:,} would be lost that are kept"
    if found.rows_ended:
        yield f"{count_text(found.rows_ended, 'row')} ended before there was a clip, which no setting changes"
    if found.parts_without:
        yield f"note: {count_text(found.parts_without, 'part')} without stored results: nothing is known of their clips"
    if found.passed_over:
        yield f"note: {found.passed_over:,} rows or clips passed over: they have no joints stored, or are in no plan"
    if found.outdated:
        yield (
            f"note: in {count_text(found.outdated, 'part')} joints are of other models or settings than the "
            "pipeline's; an update would find them again"
        )


def _manifest(options: argparse.Namespace) -> int:
    from posecap import legacy
    from posecap.builtin import DEFAULT_PIPELINE, nearest_pipeline, pipeline_path
    from posecap.manifest.importers import SPLIT_FOLDERS, FolderSplit, from_folder, from_kinetics
    from posecap.manifest.manifest_file import AutoSplit

    if options.pipeline and not legacy.pipeline_file(pipeline_path(options.pipeline, Path.cwd())).is_file():
        print(f"posecap: no pipeline {options.pipeline!r}: {nearest_pipeline(options.pipeline)}", file=sys.stderr)
        return ERROR
    overwrite: Literal["yes", "no"] = "yes" if options.overwrite else "no"
    if "folder" in options:
        output = options.output or Path(f"{options.folder.resolve().name}.yaml")
        pipeline = options.pipeline or DEFAULT_PIPELINE
        split = None
        if options.split:
            split = FolderSplit(rule=AutoSplit(ratios=options.split, seed=options.split_seed), group=options.group_by)
        elif options.group_by:
            print("posecap: --group-by is for --split: without it all videos are train", file=sys.stderr)
            return USAGE
        made = from_folder(options.folder, output, pipeline=pipeline, overwrite=overwrite, split=split)
    else:
        output = options.output or Path(f"{options.file.stem}-poses.yaml")
        videos = options.videos
        made = from_kinetics(options.file, output, pipeline=options.pipeline, videos=videos, overwrite=overwrite)
    splits = ", ".join(f"{count:,} {split}" for split, count in sorted(made.rows_by_split.items()))
    print(f"{made.table}: {count_text(made.rows, 'row')} ({splits}), {count_text(made.labels, 'label')}")
    if made.unlabelled:
        print(
            f"{count_text(made.unlabelled, 'row')} without a label, rejected unless a captioner describes them: put "
            f"their videos into folders named after what is done in them, or fill in the column label of {made.table}"
        )
    if made.like_splits:
        print(
            f"the folders {', '.join(made.like_splits)} became labels: splits are folders named "
            f"{', '.join(SPLIT_FOLDERS)}; rename them if they are meant as splits, and repeat this with --overwrite"
        )
    if made.missing or made.unusable or made.repeated:
        links = f", {made.repeated:,} links to folders that are read already" if made.repeated else ""
        counts = f"{made.missing:,} missing, {made.unusable:,} unusable{links}"
        print(f"left out: {counts}, such as {', '.join(made.examples)}")
    if made.passed_over:
        print(f"passed over {count_text(made.passed_over.total(), 'file')}: {made.passed_over_words()}")
    print(f"{made.manifest}: fill in {' and '.join(made.to_fill)}, then")
    print(f"  posecap plan --manifest {made.manifest}")
    return COMPLETE


_ADD_MORE = """\
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


def _add_enrichment(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``add``."""
    about = "add vectors of another model, or captions of another captioner, to a dataset that is built"
    parser = command(commands, "add", _add, about=about, more=_ADD_MORE)
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
    wanted = [one for kind, words in asked for word in words for one in _engines_named(kind, word)]
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
        for line in _enriched_lines(done):
            print(line)
        code = PARTIAL if done.missing else code
    return code


def _enriched_lines(done: Enriched) -> Iterator[str]:
    """What became of a member, for people."""
    made = f"{count_text(done.parts, 'part')} made" if done.parts else "all of it is there; nothing to do"
    yield f"{done.member}: {count_text(done.samples, 'clip')}, {made}"
    if done.missing:
        counted = ", ".join(f"{reason} {count:,}" for reason, count in done.missing.items())
        yield f"{sum(done.missing.values()):,} of them have none: {counted}; --retry-failed tries them again"
    if done.parts:
        yield "run `posecap build` again for a report and a card that name it"


def _engines_named(kind: Kind, word: str) -> Iterator[_Wanted]:
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
