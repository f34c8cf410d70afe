"""``posecap doctor``, ``pipeline`` and ``models``: what is on this machine, the pipelines of posecap, the weights that
engines use.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from posecap.terminal import COMPLETE, ERROR, USAGE, Commands, command

_PIPELINES = """\
  posecap pipeline list
  posecap pipeline show default > mine.py      a copy to edit; then write 'pipeline: mine.py' in the manifest
"""
_MORE = """\
  posecap models list                          all known weights, their licenses, and which are on this machine
  posecap models pull yolo11n rtmpose-m        fetch before a build, or on a machine that has a network
  posecap models pull --pipeline mine.py       everything that a pipeline needs
  posecap models pull yolo11n --from /media/usb
  posecap models verify                        hash every file that is on this machine

where weights are looked for: the cache ($POSECAP_CACHE, or ~/.cache/posecap), then the folders in
$POSECAP_WEIGHTS, then the network, unless POSECAP_OFFLINE=1. HF_ENDPOINT and HF_TOKEN count for the Hub.
"""


_DOCTOR = """\
  posecap doctor                               what a build by the default pipeline needs, and what is here
  posecap doctor --pipeline posecap_1m         the same for another one, or for a pipeline file of your own

Nothing is downloaded, and weights are not hashed (`posecap models verify` does). Exit code 1 if something is missing
without which that pipeline does not run. Put the output into a report of a bug; it holds no secrets.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``doctor``, and ``pipeline`` and ``models``, each with its actions."""
    about = "look at packages, weights, decoders, GPU, Ray and disk of this machine, and say what to do"
    parser = command(commands, "doctor", _examine, about=about, more=_DOCTOR)
    chosen = "whose engines and weights must be here (default: default)"
    parser.add_argument("--pipeline", metavar="NAME|FILE", default="default", help=chosen)
    where = "folder that datasets will be written to (default: datasets)"
    parser.add_argument("--output", type=Path, default=Path("datasets"), metavar="DIR", help=where)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    about = "list and print the pipelines that come with posecap"
    parser = command(commands, "pipeline", _list_pipelines, about=about, more=_PIPELINES)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    command(actions, "list", _list_pipelines, about="names and what they are for")
    showing = command(
        actions, "show", _show_pipeline, about="print a pipeline's file, every parameter in it", more=_PIPELINES
    )
    showing.add_argument("name", metavar="NAME", help="a name of `posecap pipeline list`")
    about = "all known weights, their licenses, and which are on this machine"
    parser = command(commands, "models", _list, about="list, fetch and check the weights of models", more=_MORE)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = command(actions, "list", _list, about=about)
    listing.add_argument("--json", action="store_true", help="print everything that is known, as JSON")
    pulling = command(
        actions, "pull", _pull, about="copy or download weights to this machine, and check them", more=_MORE
    )
    pulling.add_argument("names", nargs="*", metavar="NAME", help="a name of `posecap models list`")
    pulling.add_argument("--pipeline", metavar="FILE", help="everything that this pipeline, or 'default', needs")
    source = "take them from this file or folder instead of the network"
    pulling.add_argument("--from", dest="source", type=Path, metavar="PATH", help=source)
    checking = command(
        actions, "verify", _verify, about="hash the weights on this machine; exit code 1 when a file is damaged"
    )
    checking.add_argument("names", nargs="*", metavar="NAME", help="default: all that are on this machine")


def _examine(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console

    from posecap.doctor import examine, show

    findings = examine(options.pipeline, options.output)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        show(findings, Console(highlight=False))
    missing = sum(finding.state == "missing" for finding in findings)
    if missing:
        print(f"posecap: {options.pipeline} lacks {missing} of {len(findings)} here", file=sys.stderr)
    return ERROR if missing else COMPLETE


def _list_pipelines(_: argparse.Namespace) -> int:
    from posecap.builtin import pipelines, summary

    found = pipelines()
    width = max(map(len, found), default=0)
    for name, path in found.items():
        print(f"{name.ljust(width)}  {summary(path)}")
    return COMPLETE


def _show_pipeline(options: argparse.Namespace) -> int:
    from posecap.builtin import nearest_pipeline, pipelines

    path = pipelines().get(options.name)
    if path is None:
        print(f"posecap: no pipeline named {options.name!r}: {nearest_pipeline(options.name)}", file=sys.stderr)
        return ERROR
    print(path.read_text("utf-8"), end="")
    return COMPLETE


def _list(options: argparse.Namespace) -> int:
    from posecap.models import SHA256_DIGITS, cached, known_sha256
    from posecap.weights.registry import REGISTRY

    facts = [
        {
            "name": weights.name,
            "about": weights.about,
            "maker": weights.maker,
            "license": weights.license,
            "size_bytes": weights.size_bytes,
            "used_by": list(weights.used_by),
            "homepage": weights.homepage,
            "address": weights.url,
            "package": weights.package or (weights.uri if weights.is_packaged else ""),
            "sha256": known_sha256(weights) or weights.sha256,
            "path": str(cached(weights) or weights.path),
            "here": cached(weights) is not None,
        }
        for weights in REGISTRY.values()
    ]
    if options.json:
        print(json.dumps(facts, indent=1))
        return COMPLETE
    rows = [("NAME", "SIZE", "HERE", "HASH", "USED BY", "FROM", "MAKER", "LICENSE")]
    for weights in REGISTRY.values():
        pin = "full" if len(weights.sha256) == SHA256_DIGITS else "pinned" if known_sha256(weights) else "first use"
        if pin == "first use" and weights.sha256:
            pin = f"{len(weights.sha256)} digits"
        here = "here" if cached(weights) else "-"
        size = f"{weights.size_bytes / 1e6:,.1f} MB"
        sources = " or ".join(weights.sources)
        used_by = ", ".join(weights.used_by)
        rows.append((weights.name, size, here, pin, used_by, sources, weights.maker, weights.license))
    name_width, size_width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, size, *others, license_ in rows:
        cells = (cell.ljust(width) for cell, width in zip(others, widths, strict=False))
        print("  ".join((name.ljust(name_width), size.rjust(size_width), *cells, license_)))
    print(
        "\nHERE: on this machine. HASH, the SHA-256 that a file must have: full = known in advance; N digits = only "
        "the first N are;\nfirst use = none is, that of the first file pulled will be kept; pinned = that of the first "
        "file pulled"
    )
    return COMPLETE


def _pull(options: argparse.Namespace) -> int:
    from posecap.builtin import pipeline_path
    from posecap.models import SHA256_DIGITS, MissingWeightsError, pull, weights_sha256
    from posecap.pipeline import load_pipeline
    from posecap.progress import DownloadProgress
    from posecap.stage import engines_of
    from posecap.weights.registry import REGISTRY

    stages = load_pipeline(pipeline_path(options.pipeline, Path())).stages if options.pipeline else ()
    needed = (name for stage in stages for engine in engines_of(stage) for name in engine.weights)
    names = [*options.names, *needed]
    if not names:
        remedy = "name the weights to pull, or a pipeline with --pipeline; `posecap models list` lists all names"
        print(f"posecap: {remedy}", file=sys.stderr)
        return COMPLETE if options.pipeline else USAGE
    if len(names) > 1 and options.source and options.source.is_file():
        print(f"posecap: {options.source} is one file: pull one name from it, or give a folder", file=sys.stderr)
        return USAGE
    failed = False
    for name in dict.fromkeys(names):
        try:
            with DownloadProgress(name) as progress:
                path = pull(name, source=options.source, on_progress=progress.update)
        except MissingWeightsError as error:
            failed = True
            print(f"posecap: {error}", file=sys.stderr)
            continue
        if name not in REGISTRY:
            print(f"{name}  your own file")
            continue
        print(f"{name}  {path}  {REGISTRY[name].license}")
        if len(REGISTRY[name].sha256) != SHA256_DIGITS:
            print(f"  from now on pinned to SHA-256 {weights_sha256(name)}")
    return ERROR if failed else COMPLETE


def _verify(options: argparse.Namespace) -> int:
    from posecap.models import HashMismatchError, MissingWeightsError, cached, check
    from posecap.weights.registry import REGISTRY

    unknown = [name for name in options.names if name not in REGISTRY]
    if unknown:
        raise MissingWeightsError(f"no weights named {unknown[0]!r}; `posecap models list` lists the known ones")
    named = [REGISTRY[name] for name in options.names]
    for weights in named:
        if not cached(weights):
            raise MissingWeightsError(
                f"{weights.name} is not on this machine; run `posecap models pull {weights.name}`"
            )
    here = [(weights, path) for weights in named or REGISTRY.values() if (path := cached(weights))]
    damaged = 0
    for weights, path in here:
        try:
            print(f"{weights.name}  sound  SHA-256 {check(weights, path)}")
        except HashMismatchError as error:
            damaged += 1
            print(f"{weights.name}  damaged: {error.detail}; then run `posecap models pull {weights.name}`")
    print(f"{len(here) - damaged} of {len(here)} sound")
    return ERROR if damaged else COMPLETE
