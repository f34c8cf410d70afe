"""``tmor_train embed`` and ``tmor_train export``: an encoder's embeddings as a Parquet file, an encoder as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from posecap.terminal import COMPLETE, Commands, command
from tmor_train import legacy

if TYPE_CHECKING:
    from tmor_train.data_sources import DataConfig

_EMBED_EXAMPLES = """\
examples:
  tmor_train embed runs/stage1 --data datasets/demo --output embeddings.parquet
  tmor_train embed runs/stage1 --sets penn_action:test --folder datasets/skeletons --output penn.parquet
"""
_EXPORT_NOTES = """\
The file's metadata says how clips are brought into the form that it takes, and has the SHA-256 of the checkpoint and of
the file itself. It is run in onnxruntime beside torch on batches of several sizes; if they differ by more than 1e-4 of
the largest output, no file is left. In float16 and int8, embeddings of the clips of --data or --sets are compared; int8
is scaled by half of them, and needs some.

examples:
  tmor_train export runs/stage2 --output encoder.onnx
  tmor_train export runs/stage2 --output encoder_int8.onnx --precision int8 --data datasets/mine
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``embed`` and ``export``."""
    parser = command(
        commands, "embed", _embed, about="write the embeddings of all clips of a set", more=_EMBED_EXAMPLES
    )
    _add_encoder(parser, writes="the Parquet file")
    _add_clips(parser, what="posecap datasets, folders or URLs")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="clips at a time (default: %(default)s)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the encoder (default: %(default)s)",
    )
    parser = command(
        commands, "export", _export, about="write an encoder as an ONNX file, checked against torch", more=_EXPORT_NOTES
    )
    _add_encoder(parser, writes="the ONNX file")
    parser.add_argument("--frames", type=int, metavar="T", help="frames of a clip (default: as in training)")
    parser.add_argument("--persons", type=int, metavar="M", help="people of a clip (default: as in training)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the file's weights and products (default: %(default)s)",
    )
    _add_clips(parser, what="posecap datasets to compare with, folders or URLs")


def _add_clips(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Add the arguments that name a set of clips; ``what`` says what ``--data`` is."""
    parser.add_argument("--data", nargs="+", default=(), metavar="SHARDS", help=what)
    parser.add_argument("--split", metavar="NAME", help="the split to read of them (default: all)")
    parser.add_argument(
        "--sets", nargs="+", default=(), metavar="NAME", help="published skeleton sets, e.g. penn_action"
    )
    parser.add_argument(
        "--folder", default="datasets/skeletons", metavar="DIR", help="where the sets lie (default: %(default)s)"
    )


def _add_encoder(parser: argparse.ArgumentParser, *, writes: str) -> None:
    """Add the arguments of both commands; ``writes`` is the file that ``--output`` names, in words."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint, a run's folder (its newest one), or UNIK's weights"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=f"{writes} to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument(
        "--of",
        type=legacy.encoder_word,
        choices=("ema", "online"),
        help="which of the run's encoders: the EMA over its steps, or the one that was trained "
        "(default: the one whose features were clustered)",
    )


def _embed(options: argparse.Namespace) -> int:
    """Write embeddings; returns the exit code."""
    from tmor_train.data_sources import motions_of
    from tmor_train.pretrained.embedding import embed_to_parquet, identity
    from tmor_train.pretrained.loading import load

    data = _clips(options)
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


def _clips(options: argparse.Namespace) -> DataConfig:
    """The set of clips that the options name."""
    from tmor_train.data_sources import DataConfig

    return DataConfig(shards=tuple(options.data), split=options.split, sets=tuple(options.sets), folder=options.folder)


def _export(options: argparse.Namespace) -> int:
    """Write an encoder as ONNX and say what it takes and gives; returns the exit code."""
    from tmor_train.data_sources import motions_of
    from tmor_train.pretrained.export import export
    from tmor_train.pretrained.loading import load

    clips = motions_of(_clips(options)) if options.data or options.sets else None
    encoder = load(options.checkpoint, of=options.of)
    exported = export(
        encoder,
        options.output,
        frames=options.frames,
        persons=options.persons,
        precision=options.precision,
        clips=clips,
        existing="replace" if options.overwrite else "refuse",
    )
    scale = encoder.sampling.normalise.screen
    for name, shape in exported.inputs.items():
        print(f"{name} ({', '.join(map(str, shape))}): {_meaning(name, encoder.sampling.layout, scale)}")
    outputs = " and ".join(exported.outputs)
    print(f"gives {outputs}; differs from torch by at most {exported.difference:.1e} of the largest")
    if options.precision != "float32":
        of = "clips" if clips is not None else "made-up clips"
        print(
            f"embeddings of {of} in {options.precision}: mean cosine {exported.cosine:.4f} with torch's, less the mean"
        )
    print(f"checkpoint {encoder.path.name}, SHA-256 {encoder.sha256}; of the file itself {exported.sha256}")
    print(f"done: {exported.path}")
    return COMPLETE


def _meaning(name: str, layout: str, scale: str) -> str:
    """An input of the ONNX file in words: its axes, or what its values mean."""
    if name == "present":
        return "1 for a person who is in a frame, else 0"
    return f"clips, coordinates, frames, joints of {layout}, people; scaled by {scale!r}, 0 where a joint is not seen"
