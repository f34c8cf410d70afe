"""Other works' methods on the same backbone, data and loop.

A method is one file: its settings (a configuration) and its module (:class:`~tmor_train.methods.base.Method`). Its
settings are joined to ``MethodConfig`` below, and a recipe names them in ``PretrainConfig.method``; None is T-MOR.
"""

from __future__ import annotations

from tmor_train.backbones import Backbone
from tmor_train.encoder.motion import EncoderConfig, encoder_of
from tmor_train.methods.aimclr import AimCLR
from tmor_train.methods.base import Method, MethodContext, MethodOutput, StepContext
from tmor_train.methods.cluster_contrast import ClusterContrast
from tmor_train.methods.crosclr import CrosSCLR
from tmor_train.methods.motionclip import MotionCLIP
from tmor_train.methods.tmor import TMOR
from tmor_train.methods.via import ViA

MethodConfig = AimCLR | ClusterContrast | CrosSCLR | MotionCLIP | ViA


def method_of(config: MethodConfig | None, context: MethodContext) -> Method:
    """The method that ``config`` names; None is T-MOR's.

    Raises:
        ValueError: it does not fit the data or its settings.
    """
    return TMOR(context) if config is None else config.method(context)


def encoder_for(config: MethodConfig | None, encoder: EncoderConfig, *, layout: str, persons: int) -> Backbone:
    """The encoder that a method trains, new.

    Raises:
        ValueError: a size that no encoder has.
    """
    if config is None:
        return encoder_of(encoder, layout=layout, persons=persons)
    return config.encoder(encoder, layout=layout, persons=persons)


__all__ = [
    "TMOR",
    "AimCLR",
    "ClusterContrast",
    "CrosSCLR",
    "Method",
    "MethodConfig",
    "MethodContext",
    "MethodOutput",
    "MotionCLIP",
    "StepContext",
    "ViA",
    "encoder_for",
    "method_of",
]
