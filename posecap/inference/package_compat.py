"""Imports of packages that need a workaround: torchvision, MMPose and ultralytics. Each is applied only where needed.

* torchvision is published linked against CUDA builds of torch. Beside a CPU-only torch its compiled part does not load
  and ``import torchvision`` fails for lack of ``torchvision::nms``, and with it ultralytics, open_clip, timm and
  transformers' image processors. ``nms`` is defined in Python instead; ``torchvision.io`` is not used.
* xtcocotools, which MMPose imports, is published for numpy 1 only: pycocotools has the same modules and replaces it.
* mmcv-lite lacks mmcv's compiled part, ``mmcv._ext``, but ``mmcv.ops`` looks up every operator in it. The replacement
  has ``nms``, the only operator that RTMPose and RTMDet call; every other one raises an error.
* ultralytics goes online, installs packages, reports usage and writes settings to the user's home, all decided by its
  environment at import. Here it is offline, and its settings are in posecap's cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec

from posecap.download.package_index import cache_folder

if TYPE_CHECKING:
    import torch


P = ParamSpec("P")

_lock = threading.RLock()
_COCO_MODULES = ("", ".coco", ".cocoeval", ".mask")
"""The modules that pycocotools and xtcocotools have, after the package's name."""


def _serialized(function: Callable[P, None]) -> Callable[P, None]:
    """Run by one thread at a time. The functions are idempotent, so a repeated call only looks up modules."""

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> None:
        with _lock:
            function(*args, **kwargs)

    return locked


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """For imports of packages that come with ``posecap[name]``: where one is missing, the error says so.

    Raises:
        ModuleNotFoundError: as the block, with the extra to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'posecap[{name}]'", name=error.name
        ) from error


@_serialized
def ensure_torchvision() -> None:
    """Import torchvision, with the operators it needs. Call it before any package that imports torchvision.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    else:
        if torchvision.extension._has_ops():
            return
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # partly imported
    _define_operators()
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True


def _define_operators() -> None:
    import torch

    for name in ("nms", "qnms"):  # of both torchvision registers the shapes of results; only the first is called
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.library.impl("torchvision::nms", "CompositeExplicitAutograd", _nms)


def _nms(boxes_N4: torch.Tensor, scores_N: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression: indices (K,) int64 of the boxes kept, best score first."""
    import torch

    order = torch.argsort(scores_N, descending=True, stable=True)
    x0, y0, x1, y1 = boxes_N4[order].unbind(1)
    areas = (x1 - x0) * (y1 - y0)
    alive = torch.ones(len(order), dtype=torch.bool, device=order.device)
    kept = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(i)
        width = (torch.minimum(x1[i], x1) - torch.maximum(x0[i], x0)).clamp(min=0)
        height = (torch.minimum(y1[i], y1) - torch.maximum(y0[i], y0)).clamp(min=0)
        both = width * height
        alive &= both / (areas[i] + areas - both) <= iou_threshold
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


@_serialized
def ensure_mmpose() -> None:
    """Import MMPose. Call it before anything else imports mmpose, mmdet or ``mmcv.ops``.

    Raises:
        ModuleNotFoundError: MMPose, or something it needs, is not installed; the message names the extra.
    """
    try:
        ensure_torchvision()
        _replace_xtcocotools()
        _replace_mmcv_operators()
        importlib.import_module("mmpose.apis")
        importlib.import_module("mmdet.models")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed, and RTMPose through MMPose needs it: pip install 'posecap[mmpose]' on "
            "Python 3.11; on a later Python (xtcocotools has no build for it) also pip install --no-deps mmpose==1.3.2",
            name=error.name,
        ) from error


def _replace_xtcocotools() -> None:
    """Where xtcocotools does not load, let its names mean pycocotools' modules."""
    if "xtcocotools" in sys.modules or _is_built_for_this_numpy("xtcocotools"):
        return
    for name in _COCO_MODULES:
        sys.modules[f"xtcocotools{name}"] = importlib.import_module(f"pycocotools{name}")


def _is_built_for_this_numpy(package: str) -> bool:
    """Whether the package's compiled ``_mask`` loads. A failed import is removed from ``sys.modules``."""
    try:
        importlib.import_module(f"{package}._mask")
    except (ImportError, ValueError):  # ValueError: "numpy.dtype size changed"
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
        return False
    return True


def _replace_mmcv_operators() -> None:
    if "mmcv._ext" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
        sys.modules["mmcv._ext"] = _Operators("mmcv._ext")


class _Operators(ModuleType):
    """The replacement of ``mmcv._ext``."""

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


@_serialized
def ensure_ultralytics(*also: str) -> None:
    """Import ultralytics, offline and silent. Call it before anything of ``ultralytics`` is imported.

    Where the process has imported the package before, that import and its settings stay as they are; what the
    engines call neither reports nor downloads in any case.

    Args:
        also: modules that the package would install by itself at run time, e.g. ``lap`` for its trackers.

    Raises:
        ModuleNotFoundError: the package, or one of ``also``, is not installed.
    """
    for module in ("ultralytics", *also):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f"the module {module!r} is not installed; get it with: pip install 'posecap[ultralytics]'", name=module
            )
    ensure_torchvision()
    if "ultralytics" in sys.modules:
        return
    import numpy as np
    import torch
    from PIL import Image

    wanted = {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(cache_folder() / "ultralytics"),
        "ULTRALYTICS_SAFE_LOAD": "true",
    }
    os.environ.update(wanted)
    environment, torch_save, image_open = dict(os.environ), torch.save, Image.open
    # The import also sets, for the whole process, variables, numpy's print options, a torch.save and an Image.open of
    # its own; the latter would go and install a package where a picture is broken.
    with np.printoptions():
        settings = importlib.import_module("ultralytics").settings
    for name in set(os.environ) - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    torch.save, Image.open = torch_save, image_open
    if settings["sync"]:
        settings.update(sync=False)
