"""``posecap models``: list, download and verify the weights that engines use."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.commands import COMPLETE, ERROR, USAGE, Commands, command

if TYPE_CHECKING:
    from posecap.progress import DownloadProgress
    from posecap.weights.registry import Weights

_MORE = """\
  posecap models list                          what there is, its license, and whether it is here
  posecap models pull yolo11n rtmpose-m        fetch before a build, or on a machine that has a network
  posecap models pull --pipeline mine.py       everything that a pipeline needs
  posecap models pull yolo11n --from /media/usb
  posecap models verify                        hash every file that is here

where weights are looked for: the cache ($POSECAP_CACHE, or ~/.cache/posecap), then the folders in
$POSECAP_WEIGHTS, then the network, unless POSECAP_OFFLINE=1. HF_ENDPOINT and HF_TOKEN count for the Hub.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "models", _no_action, about="list, fetch and check the weights of models", more=_MORE)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    about = "what there is, its license, and whether it is here"
    listing = command(actions, "list", run_list, about=about)
    listing.add_argument("--json", action="store_true", help="print everything that is known, as JSON")
    pulling = command(actions, "pull", run_pull, about="bring weights here, and check them", more=_MORE)
    pulling.add_argument("names", nargs="*", metavar="NAME", help="a name of `posecap models list`")
    pulling.add_argument("--pipeline", type=Path, metavar="FILE", help="everything that this pipeline needs")
    pulling.add_argument(
        "--from", dest="source", type=Path, metavar="PATH", help="a file, or a folder that holds it, not the network"
    )
    checking = command(actions, "verify", run_verify, about="hash what is here; exit code 1 when something is damaged")
    checking.add_argument("names", nargs="*", metavar="NAME", help="default: everything that is here")


def _no_action(options: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for an action")


def run_list(options: argparse.Namespace) -> int:
    from posecap.weights.registry import REGISTRY

    every = list(REGISTRY.values())
    if options.json:
        print(json.dumps([_facts(weights) for weights in every], indent=1))
    else:
        print("\n".join(_table(every)))
    return COMPLETE


def run_pull(options: argparse.Namespace) -> int:
    from posecap.models import MissingWeightsError
    from posecap.progress import DownloadProgress

    names = [*options.names, *(_needed(options.pipeline) if options.pipeline else ())]
    if not names:
        print(
            "posecap: name what to pull, or a pipeline with --pipeline; `posecap models list` names all",
            file=sys.stderr,
        )
        return USAGE if not options.pipeline else COMPLETE
    if len(names) > 1 and options.source and options.source.is_file():
        print(f"posecap: {options.source} is one file: pull one name from it, or give a folder", file=sys.stderr)
        return USAGE
    failed = False
    for name in dict.fromkeys(names):
        try:
            with DownloadProgress(name) as progress:
                lines = _pull(name, options.source, progress)
        except MissingWeightsError as error:
            failed = True
            print(f"posecap: {error}", file=sys.stderr)
        else:
            print(lines)
    return ERROR if failed else COMPLETE


def _pull(name: str, source: Path | None, progress: DownloadProgress) -> str:
    from posecap.models import pull, weights_sha256
    from posecap.weights.cache import SHA256_DIGITS
    from posecap.weights.registry import REGISTRY

    path = pull(name, source=source, on_progress=progress.update)
    if name not in REGISTRY:
        return f"{name}  your own file"
    weights = REGISTRY[name]
    pin = "" if len(weights.sha256) == SHA256_DIGITS else f"\n  from now on pinned to SHA-256 {weights_sha256(name)}"
    return f"{name}  {path}  {weights.license}{pin}"


def run_verify(options: argparse.Namespace) -> int:
    from posecap.models import MissingWeightsError
    from posecap.weights.cache import HashMismatchError, check
    from posecap.weights.registry import REGISTRY

    unknown = [name for name in options.names if name not in REGISTRY]
    if unknown:
        raise MissingWeightsError(f"no weights named {unknown[0]!r}; `posecap models list` names them all")
    named = [REGISTRY[name] for name in options.names]
    for weights in named:
        if not weights.path.is_file():
            raise MissingWeightsError(f"{weights.name} is not here; run `posecap models pull {weights.name}`")
    here = named or [weights for weights in REGISTRY.values() if weights.path.is_file()]
    damaged = 0
    for weights in here:
        try:
            print(f"{weights.name}  sound  SHA-256 {check(weights, weights.path)}")
        except HashMismatchError as error:
            damaged += 1
            print(f"{weights.name}  damaged: {error.detail}; then run `posecap models pull {weights.name}`")
    print(f"{len(here) - damaged} of {len(here)} sound")
    return ERROR if damaged else COMPLETE


def _needed(pipeline: Path) -> list[str]:
    """Names of the weights that a pipeline's engines use, in the order of the stages."""
    from posecap.pipeline import load_pipeline
    from posecap.stage import engines_of

    stages = load_pipeline(pipeline).stages
    return [name for stage in stages for engine in engines_of(stage) for name in engine.weights]


def _facts(weights: Weights) -> dict[str, object]:
    from posecap.weights.cache import known_sha256

    return {
        "name": weights.name,
        "about": weights.about,
        "license": weights.license,
        "size_bytes": weights.size_bytes,
        "used_by": list(weights.used_by),
        "homepage": weights.homepage,
        "address": weights.url,
        "sha256": known_sha256(weights) or weights.sha256,
        "path": str(weights.path),
        "here": weights.path.is_file(),
    }


def _table(every: Sequence[Weights]) -> Iterator[str]:
    rows = [("NAME", "SIZE", "HERE", "HASH", "USED BY", "LICENSE")]
    for weights in every:
        here = "here" if weights.path.is_file() else "-"
        size = f"{weights.size_bytes / 1e6:,.1f} MB"
        rows.append((weights.name, size, here, _pin(weights), ", ".join(weights.used_by), weights.license))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = (
            cell.rjust(w) if column == 1 else cell.ljust(w)
            for column, (cell, w) in enumerate(zip(row, widths, strict=False))
        )
        yield "  ".join((*cells, row[-1]))
    yield ""
    yield "hash: full, or as many digits as the makers publish; the rest is pinned when the first file comes"


def _pin(weights: Weights) -> str:
    from posecap.weights.cache import SHA256_DIGITS, known_sha256

    if len(weights.sha256) == SHA256_DIGITS:
        return "full"
    if known_sha256(weights):
        return "pinned"
    return f"{len(weights.sha256)} digits" if weights.sha256 else "first use"
