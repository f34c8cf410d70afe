"""Where a dataset's plan and what else belongs to this machine lie: in its folder, or beside others in the cache.

Plan and ledger are read and written piece by piece, which object stores do not offer. Those of a remote dataset lie in
a folder of the cache. The plan is also in the store, from which other machines copy it; the ledger can be made again
from the sidecars.
"""

from __future__ import annotations

from pathlib import Path

from posecap.download.package_index import cache_folder
from posecap.files import atomic_file, digest
from posecap.plan import PLAN_FILE, Plan, open_plan
from posecap.storage import LocalStorage, Location, open_storage

_BLOCK_BYTES = 8 << 20


def work_folder(location: Location) -> Path:
    """The local folder of a dataset's plan and ledger: the dataset's own, or one in the cache, which is made."""
    storage = open_storage(location)
    if isinstance(storage, LocalStorage):
        return storage.root
    folder = cache_folder() / "datasets" / digest(storage.location)[:24]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def store_plan(location: Location) -> None:
    """Copy the plan from the work folder into the store; in a folder it is there already."""
    storage = open_storage(location)
    if isinstance(storage, LocalStorage):
        return
    with storage.writer(PLAN_FILE) as file, (work_folder(storage) / PLAN_FILE).open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            file.write(block)
        file.finish()
        file.publish()


def stored_plan(location: Location) -> Plan | None:
    """The dataset's plan, that of a remote one copied to the work folder; None where there is none.

    Raises:
        PlanError: it is damaged.
    """
    storage = open_storage(location)
    if storage.size(PLAN_FILE) is None:
        return None
    path = work_folder(storage) / PLAN_FILE
    if not isinstance(storage, LocalStorage):
        with atomic_file(path) as copy, storage.open(PLAN_FILE) as source:
            while block := source.read(_BLOCK_BYTES):
                copy.write(block)
    return open_plan(path, media_root="")
