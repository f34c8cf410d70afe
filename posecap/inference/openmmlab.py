"""Lets MMPose import beside today's numpy, and without mmcv's compiled operators.

Two things stand in its way, and each is put right only where it does:

* ``xtcocotools``, which MMPose's data sets import, is published compiled for numpy 1 only. ``pycocotools`` has the
  same modules under the same names, and stands in for it.
* ``mmcv-lite`` is mmcv without its compiled half, ``mmcv._ext``, and yet ``mmcv.ops`` wants every operator's name of
  it. A module that knows ``nms`` and answers every other call with a clear error lets the rest import. RTMPose calls
  no such operator, RTMDet none but ``nms``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from posecap.inference.torchvision_ops import ensure_torchvision

if TYPE_CHECKING:
    import torch

_MODULES = ("", ".coco", ".cocoeval", ".mask")

_lock = threading.Lock()


def ensure_mmpose() -> None:
    """Import MMPose. Call it before anything else imports mmpose, mmdet or ``mmcv.ops``.

    Raises:
        ModuleNotFoundError: MMPose, or something it needs, is not installed; the message names the extra.
    """
    with _lock:
        _import_once()


@functools.cache
def _import_once() -> None:
    try:
        ensure_torchvision()
        _stand_in_for_xtcocotools()
        _stand_in_for_operators()
        importlib.import_module("mmpose.apis")
        importlib.import_module("mmdet.models")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed, and RTMPose through MMPose needs it: pip install 'posecap[mmpose]' on "
            "Python 3.11; on a later Python (xtcocotools has no build for it) also pip install --no-deps mmpose==1.3.2",
            name=error.name,
        ) from error


def _stand_in_for_xtcocotools() -> None:
    if "xtcocotools" in sys.modules or _is_built_for_this_numpy("xtcocotools"):
        return
    for name in _MODULES:
        sys.modules[f"xtcocotools{name}"] = importlib.import_module(f"pycocotools{name}")


def _is_built_for_this_numpy(package: str) -> bool:
    """Whether the package's compiled ``_mask`` loads. A refused import leaves nothing of the package behind."""
    try:
        importlib.import_module(f"{package}._mask")
    except (ImportError, ValueError):  # ValueError: "numpy.dtype size changed"
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
        return False
    return True


def _stand_in_for_operators() -> None:
    if "mmcv._ext" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
        sys.modules["mmcv._ext"] = _Operators("mmcv._ext")


class _Operators(ModuleType):
    """What ``mmcv.ops`` takes for its compiled half."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        if operator.startswith("__"):
            raise AttributeError(operator)

        def refuse(*_: object, **__: object) -> None:
            raise NotImplementedError(f"mmcv-lite has no compiled operator {operator!r}; install mmcv instead of it")

        return refuse

    @staticmethod
    def nms(boxes_N4: torch.Tensor, scores_N: torch.Tensor, *, iou_threshold: float, offset: int) -> torch.Tensor:
        """Indices of the boxes kept, best first. ``offset`` 1 counts a box's last pixel as part of it."""
        import torch
        import torchvision

        wider = torch.cat([boxes_N4[:, :2], boxes_N4[:, 2:] + offset], 1)
        kept: torch.Tensor = torchvision.ops.nms(wider, scores_N, iou_threshold)
        return kept
