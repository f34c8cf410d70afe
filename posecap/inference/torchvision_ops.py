"""Lets torchvision import beside a torch it was not linked against.

The registry's torchvision is linked against CUDA builds of torch. Beside a CPU-only torch its compiled half does
not load, ``torchvision::nms`` is never registered, and ``import torchvision`` dies, and with it every package that
imports it (ultralytics, open_clip, timm, transformers' image processors). What those packages use of it here is
Python, but for one operator: so that one is defined in Python, and torchvision is told that operators are there.
``torchvision.io`` stays out of use. Where torchvision imports by itself nothing is touched.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_lock = threading.Lock()


def ensure_torchvision() -> None:
    """Import torchvision, with the operators it needs. Call it before any package that imports torchvision.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    with _lock:
        _import_once()


@functools.cache
def _import_once() -> None:
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    else:
        if torchvision.extension._has_ops():
            return
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # the half that had been imported when it died
    _define_operators()
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True


_libraries: list[torch.library.Library] = []
"""Operators live as long as the library object that defined them."""


def _define_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    library.impl("nms", _nms, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _libraries.append(library)


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
