"""``posecap push``: a dataset onto the Hugging Face Hub, into an object store, or into another folder."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from posecap.terminal import COMPLETE, INTERRUPTED, PARTIAL, USAGE, Commands, command, count_text

if TYPE_CHECKING:
    from posecap.push import Pushed

_MORE = """\
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
    """Add the command."""
    about = "put a dataset on the Hugging Face Hub, into an object store, or into another folder"
    parser = command(commands, "push", _push, about=about, more=_MORE)
    parser.add_argument("dataset", metavar="DATASET", help="dataset directory, or address as s3://bucket/name")
    target = "OWNER/NAME or hf://datasets/OWNER/NAME on the Hub, an address, or a folder as ./NAME"
    parser.add_argument("target", metavar="TARGET", help=target)
    option = parser.add_argument
    option("--dry-run", action="store_true", help="list every file with its bytes, and push none")
    skeletons = "leave out the clips as mp4: skeletons, vectors and captions alone"
    option("--skeletons-only", action="store_true", help=skeletons)
    option("--replace", action="store_true", help="replace what differs there, and remove what this dataset has not")
    incomplete = "push the sound parts of a dataset that is unfinished or damaged, without card and Croissant"
    option("--incomplete", action="store_true", help=incomplete)
    option("--local-paths", action="store_true", help="push it though it tells of paths of this machine")
    option("--public", action="store_true", help="on the Hub, for everybody (default: private)")
    option("--revision", metavar="BRANCH", help="on the Hub, made where there is none (default: main)")
    option("--message", metavar="TEXT", help="of the commit on the Hub")


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
    return PARTIAL if done.left_out else COMPLETE


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(done: Pushed, *, listed: bool) -> None:
    """What was pushed, and how it is opened; of a dry run every file."""
    amounts = []
    for word, files in (("new", done.new), ("replaced", done.replaced), ("there", done.there)):
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
    print(f"{done.address}: {'would be ' if listed else ''}{'; '.join(amounts)}")
    if not listed:
        print(f'{count_text(done.parts, "part")}, {count_text(done.samples, "clip")}: posecap.open("{done.address}")')
