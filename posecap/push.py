"""Puts a dataset on the Hugging Face Hub, into an object store, or into another folder: ``posecap push``.

What is pushed are the files of committed parts, extra members, tombstones and what describes the dataset. Stored
results, previews, plan, ledger and locks stay where they are; names of machines are taken out of the report, and paths
of this machine out of the reasons why rows were not kept.

Files that are at the target with the same bytes are passed over, so a push that was stopped goes on when it is given
again. A part's files come before its sidecar, and ``dataset.json``, from which remote readers get the parts, after all
of them: no reader sees what is not there. On the Hub a commit holds whole parts, the last one also what describes the
dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar
from urllib.parse import quote

from posecap.download.retry import RetryAfter, RetryPolicy, retry
from posecap.files import Written, file_sha256, scratch_folder, unused_path
from posecap.finalize import is_finished
from posecap.release import card, croissant
from posecap.release.card import CARD_FILE
from posecap.release.croissant import CROISSANT_FILE
from posecap.release.dataset_info import summary_bytes
from posecap.release.report import REPORT_FILE
from posecap.shards.dataset import Dataset
from posecap.shards.extra import (
    MemberName,
    extra_path,
    extra_sidecar_path,
    list_without,
    read_extra_list,
    read_extra_part,
)
from posecap.shards.index import without_video
from posecap.shards.paths import (
    DATASET_LIST,
    EXTRA_FOLDER,
    EXTRA_LIST,
    MAX_DOCUMENT_BYTES,
    MAX_TABLE_BYTES,
    TOMBSTONES,
    ShardError,
    index_path,
    sidecar_path,
    video_path,
)
from posecap.shards.sidecar import damaged_files, each_sidecar, encode_document, list_of, read_sidecar
from posecap.stage import TransientError
from posecap.storage import LocalStorage, Location, RemoteStorage, Storage, StorageError, is_attempt, open_storage
from posecap.terminal import count_text
from posecap.types import PartName

T = TypeVar("T")

README: Final = "README.md"
"""The card's name where it is pushed to: Hub and ``datasets`` look for it there."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_HUB_ADDRESS = re.compile(rf"hf://datasets/({_REPOSITORY.pattern})(?:@([^/@]+))?")
_RELEASED_FOLDERS = ("data/", "index/", f"{EXTRA_FOLDER}/")
_RELEASED_FILES = (TOMBSTONES, EXTRA_LIST, DATASET_LIST, CROISSANT_FILE, REPORT_FILE)
"""Files of a dataset at a target, beside those in folders: without the card, which need not be posecap's."""
_LOCAL_PATH = re.compile(r"(?<![\w.~:/%+=&?#@*-])(?:file:/{1,3}[\w.~%-]|/[\w.~%-]+/|[A-Za-z]:\\{1,2}\w)[^\s\"'<>|;,:]*")
"""A path of a machine in text: absolute, of two names or more, and no part of a URL."""
_SHOWN = 5
"""Files that a message names; it says how many more there are."""
_FILES_IN_COMMIT, _BYTES_IN_COMMIT = 500, 20 << 30
"""The most of one commit on the Hub: our choice, whose request takes seconds, and after which a push that was stopped
goes on. Smaller datasets are pushed in one."""
_AT_A_TIME = 4
"""Files of a part that are copied at a time. Our choice: a part has three or four."""
_COPIED_BYTES = 8 << 20
"""Copied at a time: our choice, as a request to an object store costs as much as some MB."""
_POLICY: Final = RetryPolicy(attempts=5, base_seconds=1.0, longest_wait_seconds=60.0)
"""For calls of the Hub, beyond what its own package repeats. Our choice: four waits, of 15 s in all."""
_PASSING: Final = (408, 429)
"""Statuses of HTTP that may pass, as all from 500 on: too slow, too many requests."""


class PushError(RuntimeError):
    """A dataset cannot be pushed; the message says why, what was left, and what to do."""


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """What is pushed, and how.

    Args:
        video: ``leave_out`` pushes skeletons, vectors and captions alone: no tars with mp4, and indexes, sidecars, card
            and Croissant that fit.
        incomplete: whether a dataset that is unfinished or damaged is pushed, without damaged parts, card and
            Croissant, which describe it as a whole.
        existing: whether what is at the target and differs is replaced, and what this dataset does not have removed.
        local_paths: whether names of videos that are paths of this machine are pushed.
        visibility: of a repository on the Hub that is made, or that is there.
        revision: branch on the Hub, made where there is none; None for ``main``.
        message: of the commit on the Hub; None for one that names the dataset.
    """

    video: Literal["keep", "leave_out"] = "keep"
    incomplete: Literal["refuse", "push"] = "refuse"
    existing: Literal["refuse", "replace"] = "refuse"
    local_paths: Literal["refuse", "push"] = "refuse"
    visibility: Literal["private", "public"] = "private"
    revision: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class PushedFile:
    """A file as it is at the target.

    Args:
        make: gives its content, which is small; None for that of the dataset's file of this name.
    """

    name: str
    written: Written
    make: Callable[[], bytes] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, name: str, content: bytes) -> PushedFile:
        """A file with this content, which is kept in memory."""
        return cls(name, Written(hashlib.sha256(content).hexdigest(), len(content)), lambda: content)

    @classmethod
    def made(cls, name: str, make: Callable[[], bytes]) -> PushedFile:
        """A file whose content is made, again each time that it is wanted."""
        return cls(name, cls.of(name, make()).written, make)

    @property
    def size_bytes(self) -> int:
        return self.written.size_bytes


@dataclass(frozen=True)
class _Group:
    """Files that are seen together: those of a part, or of an extra member of a part's samples; and their sidecar.

    ``member`` is None for a part, and ``samples`` then their number.
    """

    part: PartName
    member: MemberName | None
    files: tuple[PushedFile, ...]
    sidecar: PushedFile
    samples: int = 0

    @property
    def all_files(self) -> tuple[PushedFile, ...]:
        """Every file, the sidecar last."""
        return (*self.files, self.sidecar)


@dataclass(frozen=True)
class Pushed:
    """What was pushed, or would be.

    Args:
        address: of the dataset at the target, as ``posecap.open`` takes it.
        new, replaced, there: files that were not there, that had other bytes, and that were there already.
        removed: names of files at the target that this dataset does not have.
        left_out: why parts were not pushed, a sentence for each.
        parts, samples: numbers of those at the target.
        not_asked: why the target could not be asked what is there, so that every file counts as new; or empty.
    """

    address: str
    new: tuple[PushedFile, ...]
    replaced: tuple[PushedFile, ...]
    there: tuple[PushedFile, ...]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]
    parts: int
    samples: int
    not_asked: str = ""


def push(
    location: Location,
    target: str,
    options: PushOptions = PushOptions(),
    *,
    mode: Literal["push", "list"] = "push",
    log: Callable[[str], None] = lambda line: None,
) -> Pushed:
    """Push a dataset, then open it at the target and read a sample.

    Args:
        target: ``OWNER/NAME`` or ``hf://datasets/OWNER/NAME[@BRANCH]`` on the Hugging Face Hub, an address that fsspec
            writes to, or a folder, with ``./`` before it where it could be taken for a repository.
        mode: ``list`` changes nothing, and does not read what it would push. It also lists for a target that cannot
            be asked what is there.
        log: gets a line for each step.

    Raises:
        PushError: the dataset is unfinished, damaged, or tells of paths of this machine; the target is another or a
            public one; or it refuses or fails. What is at the target stays, and the same call goes on.
        DatasetLockedError: the dataset is being built or changed.
        ShardError, StorageError, OSError: as readers of the dataset, and :class:`posecap.storage.Storage`, say.
    """
    source = open_storage(location)
    place = _target(target, options)
    if isinstance(place, _StoreTarget) and place.storage.location == source.location:
        raise PushError(f"{source.location} is the dataset itself: name another place")
    with _locked(source):
        whole, groups, left_out = _groups(source, options)
        _check_local_paths(source, groups, options)
        not_asked = _look(place, mode)
        lacking = {group: place.lacking(source, group) for group in groups}
        if mode == "push":
            place.check()
            damaged = _damaged(source, lacking, log)
            groups = _sound(source, groups, damaged, options)
            whole, left_out = whole and not damaged, [*left_out, *damaged.values()]
        descriptions = list(_descriptions(source, groups, options, whole=whole))
        last = [file for file in descriptions if not place.holds(file)]
        to_send = [(group, lacking[group]) for group in groups if lacking[group]]
        changed = [*chain.from_iterable(files for _, files in to_send), *last]
        done = replace(_compared(place, groups, descriptions, changed, left_out), not_asked=not_asked)
        if mode == "list":
            return done
        _check_existing(done, options)
        place.send(source, to_send, last, done.removed, log)
    _check_opens(place, done)
    return done


def _look(place: _Target, mode: Literal["push", "list"]) -> str:
    """Find out which files are at the target; to ``list``, why that is not known in place of an error, or empty."""
    try:
        place.look()
    except (PushError, StorageError) as error:
        if mode == "push":
            raise
        place.there = {}
        return str(error)
    return ""


def _sound(
    source: Storage, groups: Sequence[_Group], damaged: Mapping[_Group, str], options: PushOptions
) -> list[_Group]:
    """The groups without those that are damaged, and without what belongs to such a part.

    Raises:
        PushError: some are, and are to be refused; or none is left.
    """
    if damaged and options.incomplete == "refuse":
        raise PushError(_why_refused(source, list(damaged.values())))
    gone = {group.part for group in damaged if group.member is None}
    sound = [group for group in groups if group not in damaged and group.part not in gone]
    if not sound:
        raise PushError(f"{source.location} has no sound part: {next(iter(damaged.values()))}")
    return sound


def _compared(
    place: _Target,
    groups: Sequence[_Group],
    descriptions: Sequence[PushedFile],
    changed: Sequence[PushedFile],
    left_out: Sequence[str],
) -> Pushed:
    """What is pushed, compared with what is at the target; ``changed`` is what is not there with the same bytes."""
    every = [*chain.from_iterable(group.all_files for group in groups), *descriptions]
    names, sent = {file.name for file in every}, {file.name for file in changed}
    parts = [group for group in groups if group.member is None]
    return Pushed(
        address=place.address,
        new=tuple(file for file in changed if file.name not in place.there),
        replaced=tuple(file for file in changed if file.name in place.there),
        there=tuple(file for file in every if file.name not in sent),
        removed=tuple(name for name in sorted(place.there) if _is_released(name) and name not in names),
        left_out=tuple(left_out),
        parts=len(parts),
        samples=sum(group.samples for group in parts),
    )


def _locked(source: Storage) -> AbstractContextManager[Any]:
    """Keep builds from changing a folder meanwhile; one that this user cannot write to, and a store, are only read."""
    if isinstance(source, LocalStorage) and os.access(source.root, os.W_OK):
        return source.lock()
    return nullcontext()


def _is_released(name: str) -> bool:
    """Whether a file at a target is one of a dataset, by its name."""
    return not is_attempt(name) and (name.startswith(_RELEASED_FOLDERS) or name in _RELEASED_FILES)


# What is pushed.


def _groups(source: Storage, options: PushOptions) -> tuple[bool, list[_Group], list[str]]:
    """Whether the dataset is finished and undamaged as far as names and sizes tell, its parts and extra members in
    their order, and what was left out and why.

    Raises:
        PushError: it is not, and is to be refused.
    """
    sizes = {file.name: file.size_bytes for folder in _RELEASED_FOLDERS for file in source.list(folder)}
    finished = is_finished(source)
    if not finished and options.incomplete == "refuse":
        raise PushError(
            f"{source.location} is not finished: run `posecap build` again, or push the parts that there are with "
            "--incomplete"
        )
    groups, damaged = list[_Group](), list[str]()
    for made in chain(_made_of_parts(source, sizes, options), _made_of_extra(source, sizes)):
        try:
            groups.append(made())
        except ShardError as error:
            damaged.append(str(error))
    if damaged and options.incomplete == "refuse":
        raise PushError(_why_refused(source, damaged))
    # What belongs to a part that is left out is left out with it.
    sound = {group.part for group in groups if group.member is None}
    groups = [group for group in groups if group.part in sound]
    if not groups:
        raise PushError(f"{source.location} has no sound part: nothing is there to push; `posecap status` says why")
    if finished or damaged:
        return finished and not damaged, groups, damaged
    return False, groups, ["parts that are not built yet, card and Croissant: the dataset is not finished"]


def _why_refused(source: Storage, damaged: Sequence[str]) -> str:
    more = f" (and {len(damaged) - 1:,} more)" if len(damaged) > 1 else ""
    return (
        f"{source.location} is damaged: {damaged[0]}{more}: run `posecap verify --repair` and `posecap build`, or push "
        "the sound parts with --incomplete"
    )


def _made_of_parts(source: Storage, sizes: Mapping[str, int], options: PushOptions) -> Iterator[Callable[[], _Group]]:
    """What gives the group of each part; ``sizes`` are those of the files that are there."""
    for part, document in each_sidecar(source):
        yield partial(_group_of_part, source, part, document, sizes, options)


def _made_of_extra(source: Storage, sizes: Mapping[str, int]) -> Iterator[Callable[[], _Group]]:
    """What gives the group of each extra member of a part."""
    for member, listed in read_extra_list(source).items():
        for part in listed.parts:
            yield partial(_group_of_extra, source, member, part, sizes)


def _group_of_part(
    source: Storage,
    part: PartName,
    document: Mapping[str, Any] | ShardError,
    sizes: Mapping[str, int],
    options: PushOptions,
) -> _Group:
    """
    Args:
        document: the part's sidecar, or what is wrong with it.

    Raises:
        ShardError: that, or a file is damaged as far as its size tells; or an index that is to be changed.
    """
    if isinstance(document, ShardError):
        raise document
    if wrong := damaged_files(source, document, sizes=sizes):
        raise ShardError(f"part {part}: {wrong[0]} is missing or has another size than its sidecar says")
    files = {name: PushedFile(name, Written(**entry)) for name, entry in sorted(document["files"].items())}
    if options.video == "leave_out" and files.pop(video_path(part), None) is not None:
        index = files[index_path(part)]
        files[index.name] = PushedFile.made(index.name, partial(_index_without_video, source, index))
    sidecar = PushedFile.made(sidecar_path(part), partial(_sidecar, source, part, files))
    return _Group(part, None, tuple(files.values()), sidecar, document["samples"])


def _index_without_video(source: Storage, index: PushedFile) -> bytes:
    """Raises ShardError where the index has other bytes than its sidecar says."""
    content = source.read(index.name, limit=MAX_TABLE_BYTES)
    if PushedFile.of(index.name, content) != index:
        raise ShardError(f"{index.name} has changed since it was written")
    return without_video(content)


def _sidecar(source: Storage, part: PartName, files: Mapping[str, PushedFile]) -> bytes:
    """The sidecar of a part with these files, without paths of this machine in the reasons of its rows."""
    document = read_sidecar(source, part, names="stored")
    entries = {file.name: {"sha256": file.written.sha256, "size_bytes": file.size_bytes} for file in files.values()}
    rows = document.get("rows")
    if isinstance(rows, list):
        document["rows"] = [_without_paths(row) for row in rows]
    return encode_document({**document, "files": entries})


def _without_paths(row: Any) -> Any:
    """The outcome of a row, whose reasons name the last part of a path only."""
    if not isinstance(row, dict):
        return row
    changed = dict(row)
    if isinstance(row.get("detail"), str):
        changed["detail"] = _LOCAL_PATH.sub(lambda found: "…/" + re.split(r"[/\\]", found[0])[-1], row["detail"])
    if isinstance(row.get("clips"), list):
        changed["clips"] = [_without_paths(clip) for clip in row["clips"]]
    return changed


def _group_of_extra(source: Storage, member: MemberName, part: PartName, sizes: Mapping[str, int]) -> _Group:
    """Raises ShardError where it is damaged."""
    found = read_extra_part(source, member, part)
    name, of_it = extra_path(member, part), extra_sidecar_path(member, part)
    if found is None or sizes.get(name) != found.file["size_bytes"]:
        raise ShardError(f"{name} is missing or has another size than its sidecar says")
    return _Group(part, member, (PushedFile(name, Written(**found.file)),), PushedFile.of(of_it, found.encode()))


def _check_local_paths(source: Storage, groups: Sequence[_Group], options: PushOptions) -> None:
    """
    Raises:
        PushError: sidecars name paths of this machine, and these are not to be pushed.
    """
    if options.local_paths == "push":
        return
    for group in groups:
        content = group.sidecar.make() if group.sidecar.make else b""
        if found := _LOCAL_PATH.search(content.decode("utf-8", "replace")):
            raise PushError(
                f"{source.location}: {group.sidecar.name} tells of {found[0]}, a path of this machine, and so would "
                "what is pushed: name videos by relative paths or URLs in the manifest and build again, or give "
                "--local-paths"
            )


def _damaged(
    source: Storage, lacking: Mapping[_Group, Sequence[PushedFile]], log: Callable[[str], None]
) -> dict[_Group, str]:
    """Groups with a file that is to be sent and has other bytes than its sidecar says, and which file."""
    found: dict[_Group, str] = {}
    waiting = [(group, file) for group, files in lacking.items() for file in files if file.make is None]
    if waiting:
        log(f"checking {_amount([file for _, file in waiting])}")
    for group, file in waiting:
        with source.open(file.name) as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.written.sha256:  # type: ignore[arg-type]
                found.setdefault(group, f"{file.name} has changed since it was written")
    return found


def _descriptions(
    source: Storage, groups: Sequence[_Group], options: PushOptions, *, whole: bool
) -> Iterator[PushedFile]:
    """What describes the dataset, in the order in which it is pushed.

    Args:
        whole: whether all of the dataset is pushed; card and Croissant fit nothing else.
    """
    if (content := _read(source, TOMBSTONES)) is not None:
        yield PushedFile.of(TOMBSTONES, content)
    pushed = {(group.member, group.part) for group in groups}
    content = _read(source, EXTRA_LIST)
    if content and (listed := list_without(content, lambda member, part: (member, part) in pushed)):
        yield PushedFile.of(EXTRA_LIST, listed)
    parts = [(group.part, group.samples, (group.sidecar.make or bytes)()) for group in groups if group.member is None]
    yield PushedFile.of(DATASET_LIST, encode_document(list_of(parts)))
    if not whole:
        return
    shown = _read(source, CARD_FILE) or _read(source, README)  # under which a dataset has it that was pushed itself
    text = shown and shown.decode()
    found, report = (_parsed(name, _read(source, name)) for name in (CROISSANT_FILE, REPORT_FILE))
    if options.video == "leave_out":
        changed = {file.name: file.written for group in groups for file in group.files if file.make is not None}
        found = found and croissant.without_video(found, changed)
        report = report and {**report, "dataset": {**report.get("dataset", {}), "store_video": "none"}}
        text = text and card.without_video(text)
    if found:
        yield PushedFile.of(CROISSANT_FILE, summary_bytes(found))
    if report:
        yield PushedFile.of(REPORT_FILE, summary_bytes({**report, "nodes": []}))
    if text:
        yield PushedFile.of(README, text.encode())


def _read(source: Storage, name: str) -> bytes | None:
    """A small file's content; None where there is none.

    Raises:
        PushError: it is a symbolic link, by which a dataset from elsewhere would have another file pushed.
    """
    if isinstance(source, LocalStorage) and (source.root / name).is_symlink():
        raise PushError(f"{source.root / name} is a symbolic link, which posecap does not make: delete it")
    try:
        return source.read(name, limit=MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        return None


def _parsed(name: str, content: bytes | None) -> dict[str, Any] | None:
    """
    Raises:
        PushError: it is no JSON object.
    """
    if content is None:
        return None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PushError(f"{name} is damaged: delete report.json and run `posecap build`, which writes both anew")
    return found


def _check_existing(done: Pushed, options: PushOptions) -> None:
    """
    Raises:
        PushError: the target has other files, which are not to be replaced.
    """
    names = [*(file.name for file in done.replaced), *done.removed]
    if names and options.existing == "refuse":
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        raise PushError(
            f"{done.address} has files that this dataset has not, or has otherwise: {', '.join(names[:_SHOWN])}{more}: "
            "name another place, or give --replace, which makes it what this dataset is (--dry-run lists all)"
        )


def _amount(files: Sequence[PushedFile]) -> str:
    return f"{count_text(len(files), 'file')}, {sum(file.size_bytes for file in files):,} bytes"


def _open(source: Storage, file: PushedFile) -> BinaryIO:
    """The content of a file that is to be pushed."""
    return source.open(file.name) if file.make is None else io.BytesIO(file.make())


# Where it is pushed to.


class _Target(ABC):
    """A place for a dataset.

    Attributes:
        address: as ``posecap.open`` takes it.
        there: sizes of the files that are there, once :meth:`look` was called.
    """

    address: str
    there: Mapping[str, int]

    @abstractmethod
    def look(self) -> None:
        """Find out which files are there; nothing is changed."""

    @abstractmethod
    def check(self) -> None:
        """See that it takes files of this user, as far as that can be known before anything is read and sent.

        Raises:
            PushError: it does not.
        """

    @abstractmethod
    def holds(self, file: PushedFile) -> bool:
        """Whether a file that is small is there with these bytes."""

    @abstractmethod
    def lacking(self, source: Storage, group: _Group) -> list[PushedFile]:
        """Files of a group that are not there with these bytes."""

    @abstractmethod
    def send(
        self,
        source: Storage,
        groups: Sequence[tuple[_Group, Sequence[PushedFile]]],
        descriptions: Sequence[PushedFile],
        removed: Sequence[str],
        log: Callable[[str], None],
    ) -> None:
        """Write files group by group, then descriptions, then delete what is to be removed."""

    @abstractmethod
    def opened(self) -> Dataset:
        """The dataset that is there, for readers."""


def is_on_hub(target: str) -> bool:
    """Whether a target is a repository on the Hub, by its form."""
    return target.startswith("hf://") or _REPOSITORY.fullmatch(target) is not None


def _target(text: str, options: PushOptions) -> _Target:
    """
    Raises:
        PushError: it is no place that posecap can write to, or could be two.
        StorageError: an address holds a password.
    """
    if text.startswith("hf://"):
        found = _HUB_ADDRESS.fullmatch(text.rstrip("/"))
        if found is None:
            raise PushError(f"{text}: a dataset on the Hub is hf://datasets/OWNER/NAME, or OWNER/NAME for short")
        if found[2] and options.revision:
            raise PushError(f"{text} names a branch, and so does --revision: give one of them")
        return _HubTarget(found[1], found[2] or options.revision, options)
    if "://" in text:
        storage = open_storage(text)
        if isinstance(storage, RemoteStorage) and not storage.is_writable:
            raise PushError(f"{storage.location}: a web server takes no files: name an object store or a repository")
        return _StoreTarget(storage)
    if _REPOSITORY.fullmatch(text):
        if Path(text).exists() or Path(text).parent.is_dir():
            raise PushError(
                f"{text} may be a repository on the Hub or a folder here: write hf://datasets/{text} or ./{text}"
            )
        return _HubTarget(text, options.revision, options)
    if "/" not in text and text not in (".", ".."):
        raise PushError(f"{text}: name a repository as OWNER/{text}, or a folder as ./{text}")
    return _StoreTarget(open_storage(Path(text).expanduser()))


class _StoreTarget(_Target):
    """An object store or a folder. A part whose sidecar is there was written whole: of its files only the sizes are
    compared; others are read."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.address = storage.location

    def look(self) -> None:
        self.there = {file.name: file.size_bytes for file in self.storage.list()}

    def check(self) -> None:
        pass  # a store says so once something is written

    def holds(self, file: PushedFile) -> bool:
        if self.there.get(file.name) != file.size_bytes:
            return False
        with self.storage.open(file.name) as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        return found == file.written.sha256

    def lacking(self, source: Storage, group: _Group) -> list[PushedFile]:
        if not self.holds(group.sidecar):
            return [*(file for file in group.files if not self.holds(file)), group.sidecar]
        return [file for file in group.files if self.there.get(file.name) != file.size_bytes]

    def send(
        self,
        source: Storage,
        groups: Sequence[tuple[_Group, Sequence[PushedFile]]],
        descriptions: Sequence[PushedFile],
        removed: Sequence[str],
        log: Callable[[str], None],
    ) -> None:
        first = [file for file in descriptions if file.name == TOMBSTONES]
        for file in first:  # so that readers of an older version pass over what it removes
            self.storage.write(file.name, _content(file))
        for number, (group, files) in enumerate(groups, 1):
            log(f"[{number:,}/{len(groups):,}] {group.sidecar.name}: {_amount(files)}")
            self._send_group(source, group, files)
        for file in descriptions:
            if file not in first:
                self.storage.write(file.name, _content(file))
        # Sidecars first, so that no reader looks for files that are being deleted.
        self.storage.remove(*sorted(removed, key=lambda name: not name.endswith(".json")))

    def _send_group(self, source: Storage, group: _Group, files: Sequence[PushedFile]) -> None:
        if group.sidecar.name in self.there:
            self.storage.remove(group.sidecar.name)
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="posecap-push") as copiers:
            list(copiers.map(partial(self._copy, source), (file for file in files if file is not group.sidecar)))
        try:
            self.storage.create(group.sidecar.name, _content(group.sidecar))
        except FileExistsError:
            raise PushError(
                f"{self.address}/{group.sidecar.name} has appeared meanwhile: somebody else pushes there; once that "
                "has ended, run this command again"
            ) from None

    def _copy(self, source: Storage, file: PushedFile) -> None:
        """Write one file, whole or not at all."""
        with self.storage.writer(file.name) as written:
            with _open(source, file) as content:
                shutil.copyfileobj(content, written, _COPIED_BYTES)
            if written.finish() != file.written:
                raise _changed(source, file)
            written.publish()

    def opened(self) -> Dataset:
        return Dataset(self.storage)


def _content(file: PushedFile) -> bytes:
    """The content of a sidecar or of a description."""
    assert file.make is not None  # noqa: S101 - so they are made
    return file.make()


@dataclass(frozen=True)
class _Blob:
    """What the Hub says of a file: its bytes, and SHA-256 of large ones, or the id that git gives the content."""

    size_bytes: int
    sha256: str | None
    git_id: str


class _HubTarget(_Target):
    """A dataset repository of the Hugging Face Hub. Who asks is known from HF_TOKEN, or from `hf auth login`."""

    def __init__(self, repository: str, revision: str | None, options: PushOptions) -> None:
        self.repository, self.revision, self.options = repository, revision, options
        branch = "" if revision in (None, "main") else f"@{quote(str(revision), safe='')}"
        self.address = f"hf://datasets/{repository}{branch}"
        self._blobs: dict[str, _Blob] = {}
        self._visibility: Literal["none", "private", "public"] = "none"
        self._has_branch = False
        self._user = ""

    @cached_property
    def _hub(self) -> Any:
        """Its client."""
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils import disable_progress_bars
        except ModuleNotFoundError:
            raise PushError("the Hub needs a package that is not installed: pip install 'posecap[hub]'") from None
        if not sys.stderr.isatty():
            disable_progress_bars()
        return HfApi(library_name="posecap")

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """The result of a call of the Hub, which is repeated while it fails in a way that may pass.

        Raises:
            PushError: it fails; ``what`` was to be done.
            _NotThereError: there is no such repository or branch, or none that this user may see.
        """

        def attempt() -> T:
            try:
                return call()
            except Exception as error:  # of the client, and of what it uses for HTTP
                raise self._error(what, error) from error

        try:
            return retry(attempt, policy=_POLICY, until=math.inf)
        except TransientError as error:
            raise PushError(
                f"{self.address}: the Hub failed to {what} ({error.detail}); what is there stays: run the same command "
                "again later, it goes on"
            ) from error

    def _error(self, what: str, error: Exception) -> Exception:
        """The error for users, or one that :func:`posecap.download.retry.retry` knows. It holds no token."""
        named = {type(one).__name__ for one in _causes(error)}
        response = next((r for one in _causes(error) if (r := getattr(one, "response", None)) is not None), None)
        status = getattr(response, "status_code", None)
        said = next((text for one in _causes(error) if (text := getattr(one, "server_message", None))), "")
        kind = f"{status or type(error).__name__}{f': {said}' if said else ''}"
        if "LocalTokenNotFoundError" in named or status == 401:
            return PushError(
                f"{self.address}: the Hub does not know who you are ({kind}): run `hf auth login`, or set HF_TOKEN to "
                "a token with the right to write; see https://huggingface.co/settings/tokens"
            )
        if status == 403:
            return PushError(
                f"{self.address}: your token may not {what} there ({kind}): take one with the right to write to "
                f"{self.repository.partition('/')[0]}, or push to a name of your own"
            )
        if "OfflineModeIsEnabled" in named:
            return PushError(f"{self.address}: HF_HUB_OFFLINE is set, so that nothing is sent: unset it")
        if status == 404:
            return _NotThereError(f"{self.address}: no such repository or branch, or none that you may see ({kind})")
        if status in (409, 412):
            return PushError(f"{self.address}: somebody else changed it meanwhile ({kind}): run the same command again")
        if isinstance(status, int) and (status in _PASSING or status >= 500):
            seconds = getattr(response, "headers", {}).get("retry-after", "")
            asked = f"{kind}; it asks to wait {seconds} s" if seconds.isdigit() else kind
            return RetryAfter("hub", asked, seconds=float(seconds) if seconds.isdigit() else 0.0)
        library = {type(one).__module__.partition(".")[0] for one in _causes(error)}
        if status is None and library & {"httpx", "httpx2", "httpcore"}:
            return TransientError("hub", kind)
        if type(error) is ValueError:  # of the client: of HTTP's own the words may hold signed addresses
            kind = str(error)
        return PushError(
            f"{self.address}: the Hub does not {what} ({kind}); what is there stays, and the same command goes on"
        )

    def look(self) -> None:
        hub, known = self._hub, {"repo_id": self.repository, "repo_type": "dataset"}
        try:
            info = self._call("show the repository", partial(hub.repo_info, **known))
        except _NotThereError:
            self.there = {}
            return
        except PushError as error:
            # Of what does not exist, and of what is private, the Hub says the same to those whom it does not know.
            if "RepositoryNotFoundError" not in {type(one).__name__ for one in _causes(error)}:
                raise
            self.there = {}
            return
        self._visibility = "private" if info.private else "public"
        tree = partial(hub.list_repo_tree, recursive=True, revision=self.revision, **known)
        try:
            entries = self._call("list its files", lambda: list(tree()))
        except _NotThereError:
            self.there = {}
            return
        self._has_branch = True
        files = [entry for entry in entries if hasattr(entry, "blob_id")]  # no folders
        self._blobs = {f.path: _Blob(f.size, f.lfs.sha256 if f.lfs else None, f.blob_id) for f in files}
        self.there = {name: blob.size_bytes for name, blob in self._blobs.items()}

    def check(self) -> None:
        self._user = self._call("say who you are", self._hub.whoami)["name"]
        if self._visibility == "public" and self.options.visibility == "private":
            raise PushError(f"{self.address} is public: give --public to push there, or make it private on the Hub")

    def holds(self, file: PushedFile) -> bool:
        return self._holds(file, lambda: io.BytesIO(_content(file)))

    def _holds(self, file: PushedFile, opened: Callable[[], BinaryIO]) -> bool:
        blob = self._blobs.get(file.name)
        if blob is None or blob.size_bytes != file.size_bytes:
            return False
        if blob.sha256 is not None:
            return blob.sha256 == file.written.sha256
        with opened() as content:  # small, or it would have the other hash
            named = hashlib.sha1(b"blob %d\0" % file.size_bytes + content.read(), usedforsecurity=False)
        return named.hexdigest() == blob.git_id

    def lacking(self, source: Storage, group: _Group) -> list[PushedFile]:
        return [file for file in group.all_files if not self._holds(file, partial(_open, source, file))]

    def send(
        self,
        source: Storage,
        groups: Sequence[tuple[_Group, Sequence[PushedFile]]],
        descriptions: Sequence[PushedFile],
        removed: Sequence[str],
        log: Callable[[str], None],
    ) -> None:
        hub, known = self._hub, {"repo_id": self.repository, "repo_type": "dataset"}
        wanted = self.options.visibility
        if self._visibility == "none":
            create = partial(hub.create_repo, private=wanted == "private", exist_ok=True, **known)
            self._call("make the repository", create)
            log(f"made the {wanted} repository {self.repository} as {self._user}")
        if self.revision and not self._has_branch:
            self._call("make the branch", partial(hub.create_branch, branch=self.revision, exist_ok=True, **known))
        message = self.options.message or f"Push {count_text(len(groups), 'part')} with posecap"
        batches = list(_batches(groups)) if groups or descriptions or removed else []
        for number, files in enumerate(batches, 1):
            final = number == len(batches)
            log(f"[commit {number:,}/{len(batches):,}] {_amount([*files, *(descriptions if final else ())])}")
            more = "" if len(batches) == 1 else f" ({number}/{len(batches)})"
            self._commit(source, [*files, *(descriptions if final else ())], removed if final else (), message + more)
        if self._visibility == "private" and wanted == "public":
            self._call("make it public", partial(hub.update_repo_settings, private=False, **known))

    def _commit(self, source: Storage, files: Sequence[PushedFile], removed: Sequence[str], message: str) -> None:
        """Upload files, then show them all at once."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with ExitStack() as stack:
            operations: list[Any] = [CommitOperationDelete(path_in_repo=name, is_folder=False) for name in removed]
            for file in files:
                content = _local(source, file, stack) if file.make is None else file.make()
                operations.append(CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=content))
            commit = partial(
                self._hub.create_commit,
                repo_id=self.repository,
                repo_type="dataset",
                operations=operations,
                commit_message=message,
                revision=self.revision,
            )
            self._call("take the files", commit)

    def opened(self) -> Dataset:
        from huggingface_hub import HfFileSystem

        HfFileSystem.clear_instance_cache()  # its lists of files are those of before
        return Dataset(self.address)


class _NotThereError(PushError):
    """There is no such repository or branch."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__


def _batches(groups: Iterable[tuple[_Group, Sequence[PushedFile]]]) -> Iterator[list[PushedFile]]:
    """The files of whole groups, as many as a commit may have; one batch, which may be empty, at least."""
    batch = list[PushedFile]()
    for _, files in groups:
        size = sum(file.size_bytes for file in chain(batch, files))
        if batch and (len(batch) + len(files) > _FILES_IN_COMMIT or size > _BYTES_IN_COMMIT):
            yield batch
            batch = []
        batch += files
    yield batch


def _local(source: Storage, file: PushedFile, stack: ExitStack) -> str:
    """The path of a dataset's file on this machine, to which it is copied for as long as the stack lasts if it is not
    there.

    Raises:
        PushError: the copy has other bytes than its sidecar says.
    """
    if isinstance(source, LocalStorage):
        return str(source.root / file.name)
    path = unused_path(scratch_folder(), file.name)
    stack.callback(path.unlink, missing_ok=True)
    with source.open(file.name) as content, path.open("xb") as copy:
        shutil.copyfileobj(content, copy, _COPIED_BYTES)
    if file_sha256(path) != file.written.sha256:
        raise _changed(source, file)
    return str(path)


def _changed(source: Storage, file: PushedFile) -> PushError:
    return PushError(f"{source.location}/{file.name} has changed while it was read: run `posecap verify`")


def _check_opens(place: _Target, done: Pushed) -> None:
    """Read a sample as a reader of the target would.

    Raises:
        PushError: it cannot be read, or other samples are there.
    """
    try:
        dataset = place.opened()
        parts = dataset.parts()
        for part, rows in parts[:1]:
            next(iter(dataset.members([(part, rows[:1])])))
    except (ShardError, StorageError, FileNotFoundError) as error:
        raise PushError(f"{done.address} was pushed, but cannot be opened: {error}") from error
