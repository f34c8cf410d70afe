"""Readers of published skeleton sets, a module each: ``read(folder)`` returns a
:class:`~tmor_train.data.dataset.MotionSet`.

The sets' files are not part of this project and have their own terms; ``SOURCE`` of each module says where to get them.
Files and folders of other names are passed over, since archives bring readmes and other modalities along, and a folder
with a part of a set is read as that part.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tmor_train.data.dataset import MotionSet
from tmor_train.data.datasets import msr_action3d, penn_action, sbu, utd_mhad, utkinect
from tmor_train.data.datasets.files import DamagedFileError, MissingFilesError

SETS: dict[str, Callable[[Path], MotionSet]] = {
    "msr_action3d": msr_action3d.read,
    "penn_action": penn_action.read,
    "sbu": sbu.read,
    "utd_mhad": utd_mhad.read,
    "utkinect": utkinect.read,
}
"""Readers by name; the folder of a set usually has the same name."""

__all__ = ["SETS", "DamagedFileError", "MissingFilesError"]
