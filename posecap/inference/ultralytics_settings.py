"""Imports the ultralytics package so that it keeps to itself.

Left alone, the package looks for the internet, installs what it misses, reports usage, and keeps a settings file in
the user's home. All of that is decided by its environment at the moment of its first import. Here it is offline,
installs nothing and reports nothing, and its settings lie in a folder of posecap's cache: the user's own settings
file is neither read nor written.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import threading

from posecap.fetching.registry import cache_folder
from posecap.inference.torchvision_ops import ensure_torchvision

_lock = threading.Lock()


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
    with _lock:
        _import_once()


@functools.cache
def _import_once() -> None:
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
