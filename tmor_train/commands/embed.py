"""``tmor_train embed``: embeddings of a set, as a Parquet file."""

from __future__ import annotations

import argparse
from time import monotonic

from tmor_train.commands import COMPLETE, Commands, command
from tmor_train.commands.encoder import add_encoder

_MORE = """\
examples:
  tmor_train embed runs/stage1 --data datasets/demo --output embeddings.parquet
  tmor_train embed runs/stage1 --sets penn_action:test --folder datasets/skeletons --output penn.parquet
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "embed", run, about="write the embeddings of all clips of a set", more=_MORE)
    add_encoder(parser, writes="the Parquet file")
    parser.add_argument("--data", nargs="+", default=(), metavar="SHARDS", help="posecap datasets, folders or URLs")
    parser.add_argument("--split", metavar="NAME", help="the split to read of them (default: all)")
    parser.add_argument(
        "--sets", nargs="+", default=(), metavar="NAME", help="published skeleton sets, e.g. penn_action"
    )
    parser.add_argument(
        "--folder", default="datasets/skeletons", metavar="DIR", help="where the sets lie (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="clips at a time (default: %(default)s)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the encoder (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    from tmor_train.pretrain_config import DataConfig
    from tmor_train.pretrained.embedding import embed_to_parquet, identity
    from tmor_train.pretrained.loading import load
    from tmor_train.sources import motions_of

    data = DataConfig(shards=tuple(options.data), split=options.split, sets=tuple(options.sets), folder=options.folder)
    encoder = load(options.checkpoint, of=options.of, device=options.device, precision=options.precision)
    motions = motions_of(data)
    began = monotonic()
    clips = embed_to_parquet(
        encoder,
        motions,
        options.output,
        about=identity(data, motions),
        batch=options.batch,
        existing="replace" if options.overwrite else "refuse",
    )
    seconds = monotonic() - began
    print(
        f"{options.output}: {clips:,} embeddings by {encoder.path.name} ({encoder.of}), {clips / seconds:.0f} clips/s"
    )
    return COMPLETE
