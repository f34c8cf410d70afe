"""The commands that give something of a dataset out: ``posecap inspect``, ``view``, ``explore``, ``export`` and its
reverse ``import``, and ``push``.

Each command is a function of its name with an underscore before it, as in :mod:`posecap.commands.datasets`.
"""

from __future__ import annotations

import argparse
import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from posecap.commands.datasets import (
    DatasetChoiceError,
    add_dataset,
    add_where,
    dataset_and_keys,
    footage_of,
    local_footage_of,
    only_dataset,
)
from posecap.terminal import (
    COMPLETE,
    ERROR,
    INTERRUPTED,
    PARTIAL,
    USAGE,
    Commands,
    FormerFlag,
    at_least_one,
    command,
    count_text,
)

if TYPE_CHECKING:
    from posecap.explore.contents import Choice, Projection
    from posecap.push import Pushed
    from posecap.shards import Dataset
    from posecap.storage import Storage
    from posecap.visualization.view import Background

_EXPORT_MORE = """\
formats:
  coco      COCO keypoints (.json): a video for each clip, an image for each frame, tracks, skeleton
  fiftyone  a FiftyOne dataset (folder): a video sample for each clip, keypoints and boxes by person, vectors, videos
  lance     a Lance dataset (folder, .lance): the columns of parquet; needs posecap[lance]
  parquet   plain Parquet (.parquet): everything but stored video, a row for each clip, arrays as flat lists
  pyskl     the annotation pickle (.pkl) of pyskl and mmaction2, with splits; clips without a label have the label -1
  rerun     Rerun recordings (folder): {split}/{key}.rrd, joints, bones, boxes and stored video; needs posecap[rerun]

Clips are read and written one after another. What each format holds: docs/exports.md
"""
_IMPORT_MORE = """\
Formats: fiftyone, lance and parquet; the others hold no vectors of videos and texts, without which there is no dataset.
Clips come back as they were, and extra members that lance and parquet hold, without stored video, rejected rows, and
what the parts were made with.
"""
_EXPLORE_MORE = """\
The page needs no other file and no network: open it in a browser, or pass it on. It shows pictures of people where the
dataset has previews, unless --blank is given. With --serve nothing is written: the address that is printed is for a
browser on this machine, until Ctrl-C, and loading the page again shows what a build has added.
What is on it, and when `posecap view` or `posecap status` do better: docs/explore.md
"""
_PUSH_MORE = """\
  posecap push datasets/demo me/demo --dry-run         what would be pushed, file by file
  posecap push datasets/demo me/demo                   to a private dataset repository of the Hugging Face Hub
  posecap push datasets/demo me/demo --public --skeletons-only
  posecap push datasets/demo s3://bucket/demo          or gs://, az://, and whatever else fsspec writes to
  posecap push datasets/demo ./copies/demo             or a folder
  posecap push datasets/demo me/demo --replace         a newer version over what is there

Only committed parts, extra members, tombstones, card (as README.md), Croissant and report are pushed: no stored
results, previews, ledger or plan. Files that are there already are passed over, so that a push that was stopped goes
on when it is given again. At the end the dataset is opened where it was pushed to, and a sample is read.

The Hub needs pip install 'posecap[hub]', and `hf auth login` or HF_TOKEN; HF_ENDPOINT counts. More: docs/push.md; and
docs/people.md before people's skeletons are made public.
exit codes: 0 complete, 1 error, 2 wrong usage, 3 parts were left out, 130 interrupted
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands, in the order in which help lists them."""
    parser = command(commands, "inspect", _inspect, about="print one sample with axes and units")
    add_dataset(parser, words="KEY …", about="keys of clips, or their beginnings (default: the first clip)")
    listed = "list every clip instead: its key, split, label and video, divided by tabs"
    parser.add_argument("--keys", action="store_true", help=listed)
    add_where(parser, "--keys lists only")

    parser = command(commands, "view", _view, about="draw the skeletons over a clip, or many clips on one sheet")
    add_dataset(parser, words="KEY", about="a clip's key or its beginning")
    option = parser.add_argument
    option("--sheet", action="store_true", help="a contact sheet of many clips")
    option("--count", type=at_least_one, default=24, help="clips on the sheet (default: %(default)s)")
    option("--split", help="only clips of this split on the sheet")
    option("--label", help="only clips of this label on the sheet")
    add_where(parser, "only")
    option("--worst", metavar="MEASURE", help="the clips that are worst by a quality measure, such as jitter")
    option("--rejected", action="store_true", help="a sheet of what was rejected, with the reasons")
    option("--blank", action="store_true", help="draw on a dark background, without pictures of people")
    output = ".mp4 or .gif for a clip, .jpg or .png for a sheet (default: KEY.mp4, or contact_sheet.jpg)"
    option("--output", type=Path, metavar="FILE", help=output)
    option("--out", dest="output", type=Path, action=FormerFlag, const="--output")

    about = "make a page to look at the clips in a browser: moving skeletons, filters, maps, yield"
    parser = command(commands, "explore", _explore, about=about, more=_EXPLORE_MORE)
    add_dataset(parser)
    way = parser.add_mutually_exclusive_group()
    output = "the page (default: NAME.html, by the name of the dataset's folder)"
    way.add_argument("--output", type=Path, metavar="FILE.html", help=output)
    way.add_argument("--serve", action="store_true", help="answer a browser on this machine instead of writing a file")
    option = parser.add_argument
    option("--port", type=_port, default=0, help="of --serve (default: one that is free)")
    option("--overwrite", action="store_true", help="replace a file that exists")
    option("--split", help="only clips of this split")
    add_where(parser, "only")
    option("--count", type=at_least_one, help="most clips on the page, evenly chosen (default: 100,000)")
    option("--blank", action="store_true", help="leave out pictures of people")
    placed = "how vectors are placed on the maps (default: pca; with --serve at an address none, as all clips are read)"
    option("--map", choices=("pca", "tsne", "umap", "none"), help=placed)

    parser = command(
        commands, "export", _export, about="write the clips in another project's format", more=_EXPORT_MORE
    )
    add_dataset(parser)
    option = parser.add_argument
    option("--format", required=True, metavar="FORMAT", help="one of those below")
    option("--output", type=Path, required=True, metavar="PATH", help="the file or folder to write")
    option("--split", help="only clips of this split")
    add_where(parser, "only")
    about = "also an extra member, as text.minilm, in lance and parquet; without clips that have none"
    option("--extra", action="append", default=[], metavar="MEMBER", help=about)
    option("--overwrite", action="store_true", help="replace a file that exists")

    about = "make a dataset again of what `posecap export` has written"
    parser = command(commands, "import", _import, about=about, more=_IMPORT_MORE)
    parser.add_argument("source", type=Path, metavar="EXPORT", help="the file or folder, of a format named below")
    folder = "the folder of the dataset, which must not exist"
    parser.add_argument("--output", type=Path, required=True, metavar="DATASET", help=folder)

    about = "put a dataset on the Hugging Face Hub, into an object store, or into another folder"
    parser = command(commands, "push", _push, about=about, more=_PUSH_MORE)
    parser.add_argument("dataset", metavar="DATASET", help="dataset directory, or address as s3://bucket/name")
    target = "OWNER/NAME or hf://datasets/OWNER/NAME on the Hub, an address, or a folder as ./NAME"
    parser.add_argument("target", metavar="TARGET", help=target)
    option = parser.add_argument
    about = "list every file with its bytes, and push none; also where the target cannot be reached, with exit code 1"
    option("--dry-run", action="store_true", help=about)
    skeletons = "leave out the clips as mp4: skeletons, vectors and captions alone"
    option("--skeletons-only", action="store_true", help=skeletons)
    option("--replace", action="store_true", help="replace what differs there, and remove what this dataset has not")
    incomplete = "push the sound parts of a dataset that is unfinished or damaged, without card and Croissant"
    option("--incomplete", action="store_true", help=incomplete)
    option("--local-paths", action="store_true", help="push it though it tells of paths of this machine")
    option("--public", action="store_true", help="on the Hub, for everybody (default: private)")
    option("--revision", metavar="BRANCH", help="on the Hub, made where there is none (default: main)")
    option("--message", metavar="TEXT", help="of the commit on the Hub")


def _port(text: str) -> int:
    """Parse the number of a port, 0 for one that is free.

    Raises:
        ValueError, argparse.ArgumentTypeError: it is no integer, of which argparse says that it is invalid, or none of
            a port.
    """
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to 65535")
    return number


def _inspect(options: argparse.Namespace) -> int:
    from posecap.shards import Dataset, ShardError
    from posecap.shards.extra_fields import extra_of
    from posecap.visualization.view import describe

    if options.keys and options.words:
        print("posecap: --keys lists all clips, and takes no key", file=sys.stderr)
        return USAGE
    if options.keys:
        return _list_clips(Dataset(only_dataset(options)), options.where)
    if options.where:
        print("posecap: --where chooses among the clips that --keys lists", file=sys.stderr)
        return USAGE
    root, keys = dataset_and_keys(options)
    dataset = Dataset(root)
    if not keys:
        keys = dataset.index().head(1, columns=["key"])["key"].to_pylist()
        if not keys:
            raise ShardError("the dataset holds no samples; `posecap status` says why")
    for key in keys:
        whole = dataset.whole_key(key)
        print(describe(dataset.sample(whole), extra_of(dataset, whole)), end="")
    return COMPLETE


def _list_clips(dataset: Dataset, where: str | None) -> int:
    """Print a line for each clip; characters that could divide it otherwise or steer a terminal are replaced."""
    from posecap.shards import Where

    columns = ["key", "split", "label", "uri"]
    for _, _, table in dataset.rows(where=Where.of(where), columns=columns):
        for clip in table.to_pylist():
            cells = (clip[column] or "" for column in columns)
            print("\t".join("".join(c if c.isprintable() else "?" for c in cell) for cell in cells))
    return COMPLETE


def _view(options: argparse.Namespace) -> int:
    from posecap.shards import not_a_dataset

    background: Background = "blank" if options.blank else "footage"
    if options.sheet:
        if options.words:
            print("posecap: --sheet takes a dataset directory, no key", file=sys.stderr)
            return USAGE
        return _sheet(only_dataset(options), options, background)
    root, keys = dataset_and_keys(options)
    if not keys:
        print("posecap: name one clip by its key, or give --sheet for a contact sheet", file=sys.stderr)
        return USAGE
    if len(keys) > 1:
        raise DatasetChoiceError(not_a_dataset(keys[0]))
    if options.split or options.label or options.where or options.worst or options.rejected:
        chosen = "--split, --label, --where, --worst and --rejected"
        print(f"posecap: {chosen} choose the clips of a --sheet", file=sys.stderr)
        return USAGE
    from posecap.engines.pyav_encoder import PyAVEncoder
    from posecap.visualization.drawing import lacking_words
    from posecap.visualization.view import view_clip

    (key,) = keys
    out = options.output or Path(f"{key}.mp4")
    footage = None if options.blank else footage_of(root)
    viewed = view_clip(root, key, out=out, encoder=PyAVEncoder(), footage=footage, background=background)
    print(f"{viewed.path}: {count_text(viewed.frames, 'frame')} of {viewed.key}")
    if viewed.why_blank:
        print(f"drawn on a dark background: {viewed.why_blank}")
    if viewed.lacking:
        print(lacking_words(viewed.lacking))
    return COMPLETE


def _sheet(root: Storage, options: argparse.Namespace, background: Background) -> int:
    """`posecap view --sheet`; returns the exit code."""
    from posecap.shards import Where
    from posecap.visualization.contact_sheet import Choice, view_rejected, view_sheet
    from posecap.visualization.drawing import lacking_words

    if options.rejected and (options.worst or options.where):
        print("posecap: what was rejected has no quality measures: leave out --worst and --where", file=sys.stderr)
        return USAGE
    out = options.output or Path("contact_sheet.jpg")
    footage = None if options.blank else local_footage_of(root)
    where = Where.of(options.where)
    choice = Choice(split=options.split, label=options.label, where=where, worst=options.worst, count=options.count)
    if options.rejected:
        sheet = view_rejected(root, out=out, choice=choice, footage=footage)
    else:
        sheet = view_sheet(root, out=out, choice=choice, background=background, footage=footage)
    print(f"{sheet.path}: {count_text(sheet.clips, 'clip')}")
    if sheet.blank and not options.blank:
        print(f"{sheet.blank} of them without footage: {sheet.why_blank}")
    if sheet.lacking:
        print(lacking_words(sheet.lacking))
    return COMPLETE


def _explore(options: argparse.Namespace) -> int:
    from posecap.explore.contents import MOST_CLIPS, Choice
    from posecap.shards import Where
    from posecap.storage import LocalStorage

    if options.port and not options.serve:
        print("posecap: --port is of --serve", file=sys.stderr)
        return USAGE
    if options.output is not None and options.output.suffix.lower() not in (".html", ".htm"):
        print(f"posecap: the page is HTML: end the name {options.output} with .html", file=sys.stderr)
        return USAGE
    root = only_dataset(options)
    projection: Projection | Literal["none"] = options.map or (
        "pca" if isinstance(root, LocalStorage) or not options.serve else "none"
    )
    choice = Choice(
        split=options.split,
        where=Where.of(options.where),
        count=options.count or MOST_CLIPS,
        background="blank" if options.blank else "pictures",
        projection=None if projection == "none" else projection,
    )
    if options.serve:
        return _serve(root, choice, options.port)
    from posecap.explore.page import write_page

    name = Path(root.location).resolve().name if isinstance(root, LocalStorage) else root.location.rpartition("/")[2]
    output = options.output or Path(f"{name}.html")
    contents = write_page(root, output, choice, existing="replace" if options.overwrite else "refuse")
    there = contents.document["clips"]["there"]
    of = f" of {there:,}" if there > contents.clips.num_rows else ""
    size = output.stat().st_size / 1e6
    print(f"{output}: {count_text(contents.clips.num_rows, 'clip')}{of}, {size:,.1f} MB")
    return COMPLETE


def _serve(root: Storage, choice: Choice, port: int) -> int:
    """Answer a browser until Ctrl-C; returns the exit code."""
    from posecap.explore.page import HOST, ExploreServer

    try:
        server = ExploreServer(root, choice, port=port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        print(f"posecap: port {port} of {HOST} is taken: choose another --port, or leave it out", file=sys.stderr)
        return ERROR
    print(f"{server.address}\nuntil Ctrl-C, for browsers on this machine", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        server.close()
    return COMPLETE


def _export(options: argparse.Namespace) -> int:
    from posecap.export import export
    from posecap.finalize import is_finished

    root = only_dataset(options)
    if not is_finished(root):
        print(f"posecap: {root.location} is not finished: only the parts that are built are exported", file=sys.stderr)
    clips = export(
        root,
        options.output,
        form=options.format,
        split=options.split,
        where=options.where,
        extra=options.extra,
        existing="replace" if options.overwrite else "refuse",
    )
    print(f"{options.output}: {count_text(clips, 'clip')}")
    return COMPLETE


def _import(options: argparse.Namespace) -> int:
    from posecap.imports import import_dataset

    clips = import_dataset(options.source, options.output)
    print(f"{options.output}: {count_text(clips, 'clip')}")
    return COMPLETE


def _push(options: argparse.Namespace) -> int:
    from posecap.push import PushOptions, is_on_hub, push
    from posecap.shards import ShardError, is_dataset, not_a_dataset
    from posecap.storage import open_storage

    of_the_hub = [f"--{name}" for name in ("public", "revision", "message") if getattr(options, name)]
    if of_the_hub and not is_on_hub(options.target):
        print(f"posecap: {of_the_hub[0]} is for the Hugging Face Hub, and {options.target} is not", file=sys.stderr)
        return USAGE
    source = open_storage(options.dataset)
    if not is_dataset(source):
        raise ShardError(not_a_dataset(source))
    chosen = PushOptions(
        video="leave_out" if options.skeletons_only else "keep",
        existing="replace" if options.replace else "refuse",
        incomplete="push" if options.incomplete else "refuse",
        local_paths="push" if options.local_paths else "refuse",
        visibility="public" if options.public else "private",
        revision=options.revision,
        message=options.message,
    )
    try:
        done = push(source, options.target, chosen, mode="list" if options.dry_run else "push", log=_log)
    except KeyboardInterrupt:
        print("\nstopped; what is there stays, and the same command goes on", file=sys.stderr)
        return INTERRUPTED
    for why in done.left_out:
        print(f"left out: {why}")
    _print(done, listed=options.dry_run)
    if done.not_asked:
        print(f"posecap: the target could not be asked what is there: {done.not_asked}", file=sys.stderr)
        return ERROR
    return PARTIAL if done.left_out else COMPLETE


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(done: Pushed, *, listed: bool) -> None:
    """What was pushed, and how it is opened; of a dry run every file."""
    amounts = []
    new = "new" if not done.not_asked else "to push"  # what is there is not known
    for word, files in ((new, done.new), ("replaced", done.replaced), ("there", done.there)):
        if listed:
            for file in files:
                print(f"{word:<8}  {file.size_bytes:>15,}  {file.name}")
        if files:
            amounts.append(f"{count_text(len(files), 'file')} {word}, {sum(f.size_bytes for f in files):,} bytes")
    if listed:
        for name in done.removed:
            print(f"removed   {'':>15}  {name}")
    if done.removed:
        amounts.append(f"{count_text(len(done.removed), 'file')} removed")
    print(f"{done.address}: {'would be ' if listed and not done.not_asked else ''}{'; '.join(amounts)}")
    if not listed:
        print(f'{count_text(done.parts, "part")}, {count_text(done.samples, "clip")}: posecap.open("{done.address}")')
