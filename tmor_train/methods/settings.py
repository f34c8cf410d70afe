"""What the configuration of a method can do besides holding numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from tmor_train.backbones import Backbone
from tmor_train.encoder.motion import EncoderConfig, encoder_of
from tmor_train.methods.contract import HeadsOf, Method, Setup


@dataclass(frozen=True, kw_only=True)
class Settings(ABC):
    """A method's own numbers; what it shares with T-MOR (temperature, width, queue, momentum, heads) stands in
    ``objective``."""

    heads: ClassVar[HeadsOf] = "objective"

    @abstractmethod
    def method(self, setup: Setup) -> Method:
        """The method.

        Raises:
            ValueError: it does not fit the data or the settings of contrast; the message says what to set.
        """

    def encoder(self, config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
        """The encoder that the method trains.

        Raises:
            ValueError: it does not fit.
        """
        return encoder_of(config, layout=layout, persons=persons)


__all__ = ["Settings"]
