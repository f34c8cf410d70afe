"""``posecap remove``: take clips out for good."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from posecap.commands import COMPLETE, USAGE, Commands, add_dataset, command, dataset_and_words


class VideoNotFoundError(ValueError):
    """The video to remove is not in the dataset."""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "remove",
        run,
        about="remove clips from shards, columns and index for good, as when a person in them asks",
        more="Removed clips stay removed: later builds refuse them, and readers skip them.",
    )
    add_dataset(parser, words="KEY …", about="whole keys of clips")
    parser.add_argument(
        "--source", action="append", default=[], metavar="SHA256", help="every clip of a source video (its source_id)"
    )
    parser.add_argument(
        "--video", action="append", default=[], metavar="URI", help="every clip of a video, by its URI in the index"
    )
    parser.add_argument("--reason", default="on request", help="what the tombstone says (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    from posecap.finalize import mark_unfinished
    from posecap.shards import remove_samples
    from posecap.status.ledger import lock_dataset
    from posecap.visualization.contact_sheet import remove_previews

    root, keys = dataset_and_words(options)
    if not keys and not options.source and not options.video:
        print("posecap: name keys of clips, a --video or a --source", file=sys.stderr)
        return USAGE
    with lock_dataset(root):
        mark_unfinished(root)
        sources = [*options.source, *(source for uri in options.video for source in _sources(root, uri))]
        rewritten = remove_samples(root, keys, options.reason, sources=sources)
        remove_previews(root)
    print(f"{len(rewritten)} parts rewritten; run `posecap build` again for a report and a card without them")
    return COMPLETE


def _sources(root: Path, uri: str) -> list[str]:
    """Hashes of the files of a video: several if a fetcher downloaded only the spans of rows.

    Raises:
        VideoNotFoundError: no clip in the index comes from there.
    """
    from posecap.shards import Dataset

    dataset = Dataset(root)
    found: set[str] = set()
    for part, rows in dataset.parts():
        clips = dataset.part_index(part, ["uri", "source_id"]).take(rows).to_pylist()
        found.update(clip["source_id"] for clip in clips if clip["uri"] == uri)
    if not found:
        raise VideoNotFoundError(
            f"{uri}: no clip of {root} has this URI; the index's column uri has them as they are written"
        )
    return sorted(found)
