"""Weights of one kind of skeleton for another: joints brought to the encoder, or its trunk brought to the joints."""

from __future__ import annotations

from dataclasses import replace

from tmor_train.backbones.unik import UNIK
from tmor_train.configuration import from_json
from tmor_train.data import MotionSet
from tmor_train.data.augment import Project
from tmor_train.encoder.motion import EncoderConfig, encoder_of
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.frames.config import TransferConfig
from tmor_train.pretrained.encoder import CannotUse, Pretrained

FLAT = Project(yaw=0.0, pitch=0.0, camera="orthographic")
"""x and y as they are; clips without depth stay as they are."""


def fitted(
    encoder: Pretrained, config: TransferConfig, *, start: StartConfig, motions: MotionSet
) -> tuple[Pretrained, tuple[str, ...]]:
    """The encoder for recordings like ``motions``, and what is to be said of it.

    ``project`` adds the projection on x and y to an encoder of two coordinates that was trained without one, where the
    recordings have depth; their joints become its layout as they are gathered. ``trunk`` is :func:`transplanted`.

    Raises:
        CannotUse: ``trunk`` with released weights of another network than UNIK.
    """
    if config.how == "trunk":
        return transplanted(encoder, config, start=start)
    streams = len(encoder.views.streams)
    flat = any(isinstance(step, Project) for step in encoder.views.still)
    if motions.dimensions == 3 and encoder.network.channels == 2 * streams and not flat:
        views = replace(encoder.views, still=(FLAT, *encoder.views.still))
        return replace(encoder, views=views), ("joints in space were projected on x and y",)
    return encoder, ()


def transplanted(
    encoder: Pretrained, config: TransferConfig, *, start: StartConfig
) -> tuple[Pretrained, tuple[str, ...]]:
    """A new encoder of three coordinates with every weight of ``encoder`` whose name and shape fit.

    New weights are drawn from torch's generator. Views that change joints are left out: they were those of pictures.
    """
    streams = encoder.views.streams
    shape = replace(_shape_of(encoder, start), channels=3 * len(streams))
    network = encoder_of(shape, layout=config.layout, persons=config.people)
    own, given = network.state_dict(), encoder.network.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    # Normalisation of the joints' own coordinates means nothing for other joints, even where their number is the same.
    if encoder.sampling.layout != config.layout:
        fitting = {name: tensor for name, tensor in fitting.items() if not name.startswith("data_bn")}
    network.load_state_dict({**own, **fitting})
    moved = sum(fitting[name].numel() for name, _ in network.named_parameters() if name in fitting)
    total = sum(parameter.numel() for parameter in network.parameters())
    return (
        replace(
            encoder,
            network=network.to(encoder.device).eval().requires_grad_(False),
            heads=None,
            sampling=replace(encoder.sampling, layout=config.layout, people=config.people),
            views=replace(encoder.views, still=()),
        ),
        (f"{moved:,} of {total:,} weights of the encoder were taken over, the others are new",),
    )


def _shape_of(encoder: Pretrained, start: StartConfig) -> EncoderConfig:
    """What kind of encoder it is, from its run, from its own numbers, or from the configuration of new weights."""
    if encoder.config is not None:
        return from_json(EncoderConfig, encoder.config["encoder"])
    if not encoder.sha256:
        return start.scratch.encoder
    if isinstance(encoder.network, UNIK):
        return EncoderConfig(tau=encoder.network.tau, heads=encoder.network.heads, people=encoder.network.people)
    raise CannotUse(f"{encoder.path} does not say which network it is; transfer.how=project needs no such thing")


__all__ = ["FLAT", "fitted", "transplanted"]
