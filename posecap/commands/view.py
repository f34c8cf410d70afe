"""``posecap view`` draws skeletons over clips; ``posecap inspect`` prints one sample."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.commands import (
    COMPLETE,
    USAGE,
    Commands,
    FormerFlag,
    add_dataset,
    at_least_one,
    command,
    dataset_and_words,
)

if TYPE_CHECKING:
    from posecap.shards import Dataset
    from posecap.visualization.view import Background, Footage


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "view", run, about="draw the skeletons over a clip, or many clips on one sheet")
    add_dataset(parser, words="KEY", about="a clip's key or its beginning")
    parser.add_argument("--sheet", action="store_true", help="a contact sheet of many clips")
    parser.add_argument("--count", type=at_least_one, default=24, help="clips on the sheet (default: %(default)s)")
    parser.add_argument("--split", help="only clips of this split on the sheet")
    parser.add_argument("--blank", action="store_true", help="draw on a dark ground, without pictures of people")
    parser.add_argument("--output", type=Path, metavar="FILE", help=".mp4 or .gif for a clip, .jpg or .png for a sheet")
    parser.add_argument("--out", dest="output", type=Path, action=FormerFlag, const="--output")


def run(options: argparse.Namespace) -> int:
    root, keys = dataset_and_words(options)
    if options.sheet == bool(keys) or len(keys) > 1:
        print("posecap: name one clip by its key, or ask for a --sheet", file=sys.stderr)
        return USAGE
    return _sheet(options, root) if options.sheet else _clip(options, root, keys[0])


def _sheet(options: argparse.Namespace, root: Path) -> int:
    from posecap.visualization.contact_sheet import view_sheet

    out = options.output or Path("contact_sheet.jpg")
    background: Background = "blank" if options.blank else "footage"
    count = view_sheet(root, out=out, split=options.split, count=options.count, background=background)
    print(f"{out}: {count} clips")
    return COMPLETE


def _clip(options: argparse.Namespace, root: Path, key: str) -> int:
    from posecap.engines.pyav_encoder import PyAVEncoder
    from posecap.visualization.view import view_clip

    out = options.output or Path(f"{key}.mp4")
    background: Background = "blank" if options.blank else "footage"
    viewed = view_clip(root, key, out=out, encoder=PyAVEncoder(), footage=_footage(root), background=background)
    print(f"{viewed.path}: {viewed.frames} frames of {viewed.key}")
    if viewed.why_blank:
        print(f"on a dark ground: {viewed.why_blank}")
    return COMPLETE


def _footage(root: Path) -> Footage | None:
    """The fetchers and decoders of the dataset's build; None if its manifest or pipeline cannot be read."""
    from posecap.finalize import read_manifest_path
    from posecap.manifest.manifest_file import ManifestError, read_manifest
    from posecap.pipeline import PipelineError, load_pipeline
    from posecap.stages.decode import Decode
    from posecap.stages.download import Download
    from posecap.visualization.view import Footage

    path = read_manifest_path(root)
    if path is None:
        return None
    try:
        manifest = read_manifest(path)
        stages = {type(stage): stage for stage in load_pipeline(manifest.pipeline).stages}
    except (ManifestError, PipelineError):
        return None
    download, decode = stages.get(Download), stages.get(Decode)
    if not isinstance(download, Download) or not isinstance(decode, Decode):
        return None
    return Footage(
        fetchers=download.fetchers,
        prober=decode.prober,
        decoders=decode.decoders,
        limits=download.limits,
        media_root=manifest.media_root,
    )


def add_inspect(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "inspect", run_inspect, about="print one sample with axes and units")
    add_dataset(parser, words="KEY", about="a clip's key or its beginning (default: the first clip)")


def run_inspect(options: argparse.Namespace) -> int:
    from posecap.shards import Dataset
    from posecap.visualization.describe import describe
    from posecap.visualization.view import whole_key

    root, keys = dataset_and_words(options)
    dataset = Dataset(root)
    for key in keys or [""]:
        print(describe(dataset.sample(whole_key(dataset, key) if key else _first(dataset))), end="")
    return COMPLETE


def _first(dataset: Dataset) -> str:
    from posecap.shards import ShardError

    keys = dataset.index()["key"]
    if len(keys) == 0:
        raise ShardError("the dataset holds no samples; `posecap status` says why")
    return str(keys[0])
