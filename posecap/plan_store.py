"""Where a dataset's plan and what else belongs to this machine lie: in its folder, or beside others in the cache.

Plan and ledger are read and written piece by piece, which object stores do not offer. Those of a remote dataset lie in
a folder of the cache. The plan is also in the store, from which other machines copy it; the ledger can be made again
from the sidecars.
"""

from __future__ import annotations

import os
from pathlib import Path

from posecap.download.package_index import cache_folder
from posecap.files import atomic_file, digest, file_sha256
from posecap.manifest.manifest_file import Manifest, is_url
from posecap.plan import PLAN_FILE, Plan, open_plan
from posecap.storage import LocalStorage, Location, Storage, StorageError, is_remote, open_storage

_BLOCK_BYTES = 8 << 20
"""Copied at a time."""


def output_storage(output: str | os.PathLike[str] | None, manifest: Manifest) -> Storage:
    """Where the dataset is to lie: ``output``, or the manifest's where it is None.

    Raises:
        StorageError: it is an address that holds a password, or one that was made a path, which as such would be a
            local folder called ``s3:``.
    """
    if output is None:
        return LocalStorage(manifest.output)
    text = os.fspath(output)
    if is_remote(text):
        return open_storage(text)
    scheme = Path(text).parts[0] if Path(text).parts else ""
    if is_url(f"{scheme}//"):
        raise StorageError(
            f"{text} was an address before it became a path, which has lost a slash: give it as text, {scheme}//…"
        )
    storage = open_storage(text)
    return LocalStorage(storage.root.absolute()) if isinstance(storage, LocalStorage) else storage


_SERVERS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST")
"""Variables of the environment by which the clients of S3 and of Google find another server than their own."""


def work_folder(location: Location) -> Path:
    """The local folder of a dataset's plan and ledger: the dataset's own, or one in the cache, which is made, for a
    remote dataset."""
    storage = open_storage(location)
    if isinstance(storage, LocalStorage):
        return storage.root
    # One address means another dataset at another server; 96 bits: no two meet by chance.
    server = next((os.environ[name] for name in _SERVERS if os.environ.get(name)), None)
    place = storage.location if server is None else [storage.location, server]
    folder = cache_folder() / "datasets" / digest(place)[:24]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def store_plan(location: Location, made: Path) -> Path:
    """Move a plan that was just made to its place, and copy it into the store if that has another; returns the path.

    Raises:
        OSError: the disk or store is full or fails.
    """
    storage = open_storage(location)
    path = work_folder(storage) / PLAN_FILE
    known = file_sha256(path) if path.is_file() else ""
    made.replace(path)
    if isinstance(storage, LocalStorage) or known == file_sha256(path):
        return path  # the one before was the store's (adopt_stored_plan), which so has this one already
    with storage.writer(PLAN_FILE) as file, path.open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            file.write(block)
        file.finish()
        file.publish()
    return path


def adopt_stored_plan(location: Location) -> Path:
    """The path of the plan that a build starts from, which need not be there. The caller holds the dataset's lock."""
    path = work_folder(location) / PLAN_FILE
    copy = fetch_plan(location)
    if copy is None:
        path.unlink(missing_ok=True)  # of a dataset that was here before and was deleted
    elif copy != path:
        copy.replace(path)
    return path


def fetch_plan(location: Location) -> Path | None:
    """The path of the dataset's plan, for reading; None where there is none.

    That of a remote dataset is a copy beside the one of a build, which may be under way on this machine.

    Raises:
        OSError: the store or the cache's disk fails.
    """
    storage = open_storage(location)
    if storage.size(PLAN_FILE) is None:
        return None
    if isinstance(storage, LocalStorage):
        return storage.root / PLAN_FILE
    path = work_folder(storage) / f"copy-{PLAN_FILE}"
    with atomic_file(path) as copy, storage.open(PLAN_FILE) as source:
        while block := source.read(_BLOCK_BYTES):
            copy.write(block)
    return path


def stored_plan(location: Location) -> Plan | None:
    """The dataset's plan; None where there is none.

    Raises:
        PlanError: it is damaged.
    """
    path = fetch_plan(location)
    return None if path is None else open_plan(path, media_root="")
