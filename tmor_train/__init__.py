"""tmor_train: T-MOR, a skeleton encoder pre-trained against frozen video and text embeddings (arXiv 2606.21607).

``tmor_train.load(checkpoint)`` is a trained encoder, ready to use; see :mod:`tmor_train.pretrained.encoder`.
``tmor_train.recognizer(checkpoint, texts=…)`` finds actions in videos; see :mod:`tmor_train.recognition`.
"""

import sys
from typing import TYPE_CHECKING

from posecap import FormerNames

if TYPE_CHECKING:
    from tmor_train.pretrained.encoder import load
    from tmor_train.recognition import recognizer

__version__ = "0.1.0"

sys.meta_path.append(FormerNames("tmor_train"))


def __getattr__(name: str) -> object:
    """``load`` and ``recognizer``, which import torch, when they are asked for; AttributeError for any other name."""
    if name == "load":
        from tmor_train.pretrained.encoder import load

        return load
    if name == "recognizer":
        from tmor_train.recognition import recognizer

        return recognizer
    raise AttributeError(f"module 'tmor_train' has no attribute {name!r}")


__all__ = ["__version__", "load", "recognizer"]
