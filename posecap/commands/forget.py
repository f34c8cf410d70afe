"""``posecap forget``: remove clips for good."""

from __future__ import annotations

import argparse
import sys

from posecap.commands import COMPLETE, USAGE, Commands, command
from posecap.commands.dataset import add_dataset, split_words


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "forget",
        run,
        about="remove clips from shards, columns and index for good, as when a person in them asks",
        more="Removed clips stay removed: later builds refuse them, and readers skip them.",
    )
    add_dataset(parser, words="KEY …", about="whole keys of clips")
    parser.add_argument(
        "--source", action="append", default=[], metavar="SHA256", help="every clip of a source video (its source_id)"
    )
    parser.add_argument("--reason", default="on request", help="what the tombstone says (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    from posecap.finish import unfinish
    from posecap.lease import lease
    from posecap.preview import forget_previews
    from posecap.shards import forget

    root, keys = split_words(options)
    if not keys and not options.source:
        print("posecap: name keys of clips, or a --source", file=sys.stderr)
        return USAGE
    with lease(root):
        unfinish(root)
        rewritten = forget(root, keys, options.reason, sources=options.source)
        forget_previews(root)
    print(f"{len(rewritten)} parts rewritten; run `posecap build` again for a report and a card without them")
    return COMPLETE
