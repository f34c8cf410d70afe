"""Methods of pre-training: T-MOR, and those of other papers on the same backbones, data and training loop.

A method is one file with its settings (a :class:`~tmor_train.methods.base.MethodSettings`) and its module (a
:class:`~tmor_train.methods.base.Method`). Its settings are added to ``MethodConfig`` below, and a recipe selects the
method by putting them into ``PretrainConfig.method``; None is T-MOR, whose settings are ``PretrainConfig.objective``.
"""

from __future__ import annotations

from tmor_train.backbones import Backbone
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.methods.aimclr import AimCLR
from tmor_train.methods.base import Method, MethodContext, MethodOutput, StepContext
from tmor_train.methods.cluster_contrast import ClusterContrast
from tmor_train.methods.crosclr import CrosSCLR
from tmor_train.methods.dense import Dense
from tmor_train.methods.motionclip import MotionCLIP
from tmor_train.methods.tmor import TMOR
from tmor_train.methods.via import ViA

MethodConfig = AimCLR | ClusterContrast | CrosSCLR | Dense | MotionCLIP | ViA


def method_of(config: MethodConfig | None, context: MethodContext) -> Method:
    """A new method with the settings ``config``; None is T-MOR.

    Raises:
        ValueError: the method does not fit the data or the other settings; the message says what to set.
    """
    return TMOR(context) if config is None else config.method(context)


def encoder_for(config: MethodConfig | None, encoder: EncoderConfig, *, layout: str, persons: int) -> Backbone:
    """The encoder that a method trains, with new weights.

    Args:
        config: the method's settings; None is T-MOR.
        encoder: settings of the backbone.
        layout: the joints of the clips, a name of :data:`posecap.joints.LAYOUTS`.
        persons: number of person slots of a clip.

    Raises:
        ValueError: a size that the backbone or the method does not take.
    """
    if config is None:
        return encoder_of(encoder, layout=layout, persons=persons)
    return config.encoder(encoder, layout=layout, persons=persons)


__all__ = [
    "TMOR",
    "AimCLR",
    "ClusterContrast",
    "CrosSCLR",
    "Dense",
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
