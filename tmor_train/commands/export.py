"""``tmor_train export``: an encoder as an ONNX file."""

from __future__ import annotations

import argparse

from tmor_train.commands import COMPLETE, Commands, command
from tmor_train.commands.encoder import add_encoder

_MORE = """\
The file's metadata says how clips are brought into the form that it takes. It is run in onnxruntime beside torch on
batches of several sizes; if they differ by more than 1e-4 of the largest output, no file is left.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        commands, "export", run, about="write an encoder as an ONNX file, checked against torch", more=_MORE
    )
    add_encoder(parser, writes="the ONNX file")
    parser.add_argument("--frames", type=int, metavar="T", help="frames of a clip (default: as in training)")
    parser.add_argument("--persons", type=int, metavar="M", help="people of a clip (default: as in training)")


def run(options: argparse.Namespace) -> int:
    from tmor_train.pretrained.export import export
    from tmor_train.pretrained.loading import load

    encoder = load(options.checkpoint, of=options.of)
    found = export(
        encoder,
        options.output,
        frames=options.frames,
        persons=options.persons,
        existing="replace" if options.overwrite else "refuse",
    )
    scale = encoder.sampling.normalise.screen
    for name, shape in found.inputs.items():
        print(f"{name} ({', '.join(map(str, shape))}): {_meaning(name, encoder.sampling.layout, scale)}")
    print(f"gives {' and '.join(found.outputs)}; differs from torch by at most {found.difference:.1e} of the largest")
    print(f"done: {found.path}")
    return COMPLETE


def _meaning(name: str, layout: str, scale: str) -> str:
    if name == "present":
        return "1 for a person who is in a frame, else 0"
    return f"clips, coordinates, frames, joints of {layout}, people; scaled by {scale!r}, 0 where a joint is not seen"
