"""Names, endings and size limits of a dataset's files; all paths are built here, none is read from a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from posecap.files import ShardError as ShardError
from posecap.storage import LocalStorage, Location, Storage, open_storage
from posecap.types import PartName

FORMAT: Final = 1
"""Version of the on-disk schema; readers reject others."""

ARRAYS: Final = {"joints": "<f4", "pts": "<f8", "video": "<f4", "text": "<f4"}
"""Array members of a sample and their dtypes, in tar order."""

MEMBERS: Final = {**{name: f"{name}.npy" for name in ARRAYS}, "txt": "txt", "json": "json"}
"""Member names and the endings of their files, ``{key}.{ending}``, in tar order."""

# Bounds on what is read of a dataset that may come from anybody: our choice, each far above what a build of the size
# that `posecap plan` advises writes, and below what would fill the memory of a machine that trains.
MAX_MEMBER_BYTES: Final = 1 << 30
"""Largest member of a tar that is read; larger ones are not written either."""
MAX_FACTS_BYTES: Final = 16 << 20
"""Largest ``json`` member."""
MAX_DOCUMENT_BYTES: Final = 256 << 20
"""Largest sidecar, list of parts or list of tombstones that is read."""
MAX_TABLE_BYTES: Final = 1 << 30
"""Largest index of a part that is read."""

DATASET_LIST: Final = "dataset.json"
TOMBSTONES: Final = "tombstones.json"
DATASET_FILES: Final = ("plan.parquet", "ledger.sqlite", DATASET_LIST)
"""A folder that has one of these files, or a committed part, is taken for a dataset."""
MOST_NAMED: Final = 8
"""Datasets that a message lists by name; it says how many more there are."""

# Keys of samples, names of parts, and paths of sidecars.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PART = re.compile(r"([A-Za-z0-9_-]{1,64})/(\d{5,9})")
_RESULTS = re.compile(r"results/([A-Za-z0-9_-]{1,64})-(\d{5,9})\.results")
_SIDECAR = re.compile(r"data/([A-Za-z0-9_-]{1,64})/pose-(\d{5,9})\.json")


def is_dataset(location: Location) -> bool:
    """Whether a location has a file that only datasets have; one whose build has just begun has its plan."""
    storage = open_storage(location)
    return any(storage.size(name) is not None for name in DATASET_FILES) or any(_sidecars(storage))


def not_a_dataset(location: Location) -> str:
    """Why a location is no dataset, with those of its folders that are."""
    storage = open_storage(location)
    lacking = f"it has no {', '.join(DATASET_FILES)} or part"
    if not isinstance(storage, LocalStorage):
        return f"no dataset at {storage.location}: {lacking}"
    if not storage.root.is_dir():
        return f"no dataset at {storage.root}: there is no such folder"
    datasets = sorted(str(path) for path in storage.root.iterdir() if is_dataset(path))
    more = f", and {len(datasets) - MOST_NAMED:,} more" if len(datasets) > MOST_NAMED else ""
    inside = f"; datasets in it are {', '.join(datasets[:MOST_NAMED])}{more}" if datasets else ""
    return f"{storage.root} is not a dataset directory: {lacking}{inside}"


def checked_key(key: str) -> str:
    """``key`` if it can name a sample.

    Raises:
        ShardError: it holds characters at which tar readers split names, or path separators.
    """
    if not _KEY.fullmatch(key):
        raise ShardError(f"sample key {key!r} must be 1 to 64 letters, digits, '_' or '-'")
    return key


def part_named(text: str) -> PartName:
    """The part that ``train/00042`` names.

    Raises:
        ShardError: ``text`` is not the name of a part.
    """
    found = _PART.fullmatch(text)
    part = PartName(found[1], int(found[2])) if found else None
    if part is None or str(part) != text:
        raise ShardError(f"{text!r} is not the name of a part; expected e.g. 'train/00042'")
    return part


def sidecar_path(part: PartName) -> str:
    """The part's sidecar; this path and those below are relative to the dataset's folder."""
    return f"data/{part.split}/{part.stem}.json"


def tar_path(part: PartName) -> str:
    """The tar of arrays, captions and facts."""
    return f"data/{part.split}/{part.stem}.tar"


def video_path(part: PartName) -> str:
    """The tar of the clips as mp4; there is none where the manifest stores no video."""
    return f"data/{part.split}/{part.stem.replace('pose', 'video', 1)}.tar"


def columns_path(part: PartName) -> str:
    """The same arrays and facts as an Arrow file, to be mapped into memory."""
    return f"data/{part.split}/{part.stem}.columns"


def index_path(part: PartName) -> str:
    """The Parquet table with a row for each sample."""
    return f"index/{part.split}-{part.number:05d}.parquet"


def results_path(part: PartName) -> str:
    """What a build stored to go on from (:mod:`posecap.shards.results`); no part of the dataset that is released."""
    return f"{RESULTS_FOLDER}/{part.split}-{part.number:05d}.results"


def results_part(name: str) -> PartName | None:
    """The part whose stored results a file is, by its name; None for another file."""
    found = _RESULTS.fullmatch(name)
    part = PartName(found[1], int(found[2])) if found else None
    return part if part is not None and results_path(part) == name else None


RESULTS_FOLDER: Final = "results"
"""Of stored results."""
PART_FOLDERS: Final = ("data", "index", RESULTS_FOLDER)
"""Folders of a dataset with files of parts."""
EXTRA_FOLDER: Final = "extra"
"""Of extra members (:mod:`posecap.shards.extra`)."""
EXTRA_LIST: Final = "extra.json"
"""The list of extra members that readers see."""


def file_paths(part: PartName) -> tuple[str, ...]:
    """Every file that a part may have besides its sidecar."""
    return tar_path(part), video_path(part), columns_path(part), index_path(part)


def committed(location: Location, split: str | None = None) -> list[PartName]:
    """Parts of a dataset that have a sidecar, ordered by split and number; ``split`` None for all.

    Of a remote dataset the store lists its files, which web servers cannot.
    """
    return sorted(part for part in _sidecars(open_storage(location)) if split in (None, part.split))


def _sidecars(storage: Storage) -> Iterator[PartName]:
    """Parts of which a storage lists a sidecar under its proper name, in the order in which it lists them."""
    for file in storage.list("data"):
        found = _SIDECAR.fullmatch(file.name)
        part = PartName(found[1], int(found[2])) if found else None
        if part is not None and sidecar_path(part) == file.name:
            yield part
