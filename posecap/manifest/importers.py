"""Writes manifests for data that exists: Kinetics annotation lists, and folders of videos.

Each function writes two files, a table and a manifest that names it; existing files are replaced only with
``overwrite="yes"``. License and contact cannot be derived, so the manifest has placeholders for the user to replace.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from posecap.builtin import DEFAULT_PIPELINE, pipelines
from posecap.download.file_type import Content, content_of
from posecap.files import atomic_file
from posecap.manifest.auto_split import stratified
from posecap.manifest.manifest_file import AutoSplit, Manifest, ManifestError, Table, shown
from posecap.manifest.rows import Problems, RawBatch, checked, encodable
from posecap.terminal import count_text
from posecap.uris import SCHEME

SPLIT_FOLDERS = ("train", "val", "test")
"""Names of folders, and of splits that are usual."""
YOUTUBE_PIPELINE = "posecap_1m"
"""Of posecap's pipelines, the one that fetches from YouTube."""
_OTHER_SPLIT_WORDS = frozenset({*SPLIT_FOLDERS, "training", "valid", "validation", "dev", "testing"})
"""In lower case; a folder with another of these names than :data:`SPLIT_FOLDERS` is a label."""
COLUMNS = ("id", "video", "start", "end", "label", "split", "license", "source")
"""Of the table written, in order."""
MOST_EXAMPLES = 5
"""Of what was left out."""
_UNEXPECTED = ("empty", "not readable", "nothing that FFmpeg opens")
"""What one would not expect of a file in a folder of videos, so that one is named."""
_THREADS = 8
"""Files that are looked into at once: most of the time is spent waiting for a disk or a network's file system, and
FFmpeg's libraries work without Python's lock."""
_ROWS_CHECKED_AT_ONCE = 1000
"""In memory: our choice, of some hundred kB."""
PLACEHOLDERS = {"license": "unknown", "contact": "somebody@example.org"}
"""Values of a written manifest that the user has to replace."""

Overwrite = Literal["yes", "no"]
"""Whether files that exist may be replaced."""


_PART_SIZES, _PARTS = (50, 100, 200, 500, 1000), 20
"""Rows of a part: the smallest of these that makes no more than so many parts, else the last. Our choices, so
that several workers have something to do and files are still easily copied: a shard of
50 clips has 5 MB, of 1,000 clips 100 MB."""


@dataclass
class Imported:
    """What was written, and what was left out.

    Args:
        manifest, table: the files written.
        rows: written to the table.
        rows_by_split: the same by split; rows that name no split count as ``train``, as in a build.
        labels: number of different labels; rows without a label do not count.
        unlabelled: rows without a label, which a pipeline without captioners rejects.
        missing: rows of a list left out because their video file does not exist.
        unusable: lines of a list that are wrong, videos left out because a table cannot hold their path or label (it
            has a line break, or more characters than a reader accepts), and folders that cannot be read.
        repeated: links to folders left out because the videos in those have rows already.
        passed_over: the number of a folder's files that are no videos, by their suffix in lower case, such as ``.jpg``
            (empty where a name has none), and what they are (:data:`posecap.download.file_type.Content`).
        passed_over_examples: one path for each of these, relative to the folder.
        examples: the first few names of what was left out, at most :data:`MOST_EXAMPLES`.
        like_splits: folders that became labels although their names are those of splits nearly, such as ``validation``.
        to_fill: keys of the manifest whose placeholders the user has to replace.
    """

    manifest: Path
    table: Path
    rows: int = 0
    rows_by_split: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    unlabelled: int = 0
    missing: int = 0
    unusable: int = 0
    repeated: int = 0
    passed_over: Counter[tuple[str, Content]] = field(default_factory=Counter)
    passed_over_examples: dict[tuple[str, Content], str] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    like_splits: list[str] = field(default_factory=list)
    to_fill: tuple[str, ...] = tuple(PLACEHOLDERS)

    def leave_out(self, name: str, why: Literal["missing", "unusable", "repeated"]) -> None:
        """Count something left out, with its name as an example."""
        self.missing += why == "missing"
        self.unusable += why == "unusable"
        self.repeated += why == "repeated"
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(name)

    def pass_over(self, path: str, what: Content) -> None:
        """Count a file of a folder that is no video."""
        key = Path(path).suffix.lower(), what
        self.passed_over[key] += 1
        self.passed_over_examples.setdefault(key, path)

    def passed_over_words(self, most: int = 8) -> str:
        """What was passed over, the most frequent first, as ``12 .jpg (picture), 1 .mp4 (empty), such as a/b.mp4``; of
        more than ``most`` kinds the rest as a number. Empty where nothing was."""
        words = []
        for (suffix, what), count in self.passed_over.most_common(most):
            example = self.passed_over_examples[suffix, what]
            such = f", such as {example!a}" if what in _UNEXPECTED else ""
            words.append(
                f"{count:,} {suffix if suffix.isprintable() and suffix else 'without a suffix'} ({what}{such})"
            )
        more = self.passed_over.total() - sum(count for _, count in self.passed_over.most_common(most))
        return ", ".join(words) + (f" and {more:,} others" if more else "")


def unfilled(manifest: Manifest) -> list[str]:
    """The lines of a manifest that still have a placeholder, as ``license: unknown``."""
    return [f"{key}: {value}" for key, value in PLACEHOLDERS.items() if getattr(manifest, key) == value]


def from_kinetics(
    file: Path,
    manifest: Path,
    *,
    pipeline: str | Path | None = None,
    videos: Path | None = None,
    overwrite: Overwrite = "no",
) -> Imported:
    """Write a manifest for a Kinetics list.

    Args:
        file: the list, a CSV with a header and the columns ``youtube_id``, ``time_start`` and ``time_end`` (whole
            seconds). The columns ``label``, ``split`` and ``is_cc`` (``1`` for a CC-BY license) are used where the
            list has them. Lines that are wrong are left out and counted as ``unusable``.
        manifest: the YAML file to write; its table is written beside it with the suffix ``.csv``.
        pipeline: the pipeline that the manifest names: one of posecap's by its name, or a file, which is not opened.
            None gives the default with ``videos``, else :data:`YOUTUBE_PIPELINE`.
        videos: None makes each row's video its YouTube page, with the list's span. A folder makes it the trimmed file
            ``{youtube_id}_{start:06d}_{end:06d}.mp4`` (or .mkv, .webm) in that folder or in its subfolder named after
            the label, without a span, since such a file holds nothing else; rows without a file are left out.

    Raises:
        ManifestError: the list cannot be read or lacks a column, ``videos`` is not a folder, no row is left, or a file
            exists that may not be overwritten.
    """
    imported = Imported(manifest, _table_for(manifest, overwrite, source_list=file))
    trimmed = _TrimmedVideos(videos) if videos else None
    empty = f"{file}: none of its rows can be written; is it the right list, and the right folder for --videos?"
    _write_table(imported, _kinetics_rows(file, trimmed, imported), empty=empty)
    _write_manifest(imported, pipeline or (DEFAULT_PIPELINE if videos else YOUTUBE_PIPELINE), media_root=videos)
    return imported


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplit:
    """How the videos of a folder are divided among splits.

    Args:
        rule: names and shares of the splits, and the seed.
        group: a regular expression: videos stay together in whose path it finds the same text, its first group or else
            all that it matches. None, and a path in which it finds nothing, leaves each video by itself.
    """

    rule: AutoSplit
    group: re.Pattern[str] | None = None

    def group_of(self, path: str) -> str:
        """The name of a video's group."""
        found = self.group.search(path) if self.group else None
        if found is None:
            return f"video {path}"
        return f"group {found[1] if found.re.groups and found[1] is not None else found[0]}"


def from_folder(
    folder: Path,
    manifest: Path,
    *,
    pipeline: str | Path = DEFAULT_PIPELINE,
    overwrite: Overwrite = "no",
    split: FolderSplit | None = None,
) -> Imported:
    """Write a manifest for all videos in a folder and its subfolders, each used whole.

    What a file is its content tells and not its name (:func:`posecap.download.file_type.content_of`): whatever
    FFmpeg's libraries open as a video has a row, all other files are counted by their suffix. Hidden files and folders
    are ignored. Links to folders are followed, each folder once, so that links that form a loop end. A video's label is
    the path of its folder relative to ``folder``, such as ``sports/jump``; a first part named train, val or test is its
    split and not part of the label. Videos in ``folder`` itself have no label.

    Args:
        folder: becomes the manifest's ``media_root``.
        manifest: the YAML file to write; its table is written beside it with the suffix ``.csv``.
        pipeline: the pipeline that the manifest names: one of posecap's by its name, or a file.
        split: divides the videos that are in no folder named train, val or test, so that each label has its share in
            every split (:func:`posecap.manifest.auto_split.stratified`). Videos that a table has which is replaced, and
            what belongs together with them, keep the splits that it gives them. None leaves all of them to train.

    Raises:
        ManifestError: ``folder`` is not a folder or has no video, or a file exists that may not be overwritten.
        ModuleNotFoundError: PyAV is not installed.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder}: is not a folder; give the folder that holds the videos")
    imported = Imported(manifest, _table_for(manifest, overwrite))
    empty = f"{folder}: there is no video in it or in its subfolders"
    rows = _folder_rows(folder, imported)
    _write_table(imported, rows if split is None else _divided(rows, split, imported.table), empty=empty)
    _write_manifest(imported, pipeline, media_root=folder)
    return imported


def _divided(rows: Iterable[dict[str, object]], split: FolderSplit, table: Path) -> Iterator[dict[str, object]]:
    """Rows with splits: their own, else those that ``table``, an earlier one, gives their group, else new ones."""
    found = list(rows)
    before = _splits_in(table)
    groups = [split.group_of(str(row["video"])) for row in found]
    known: dict[str, str] = {}
    for row, group in zip(found, groups, strict=True):
        if given := row["split"] or before.get(str(row["video"])):
            known.setdefault(group, str(given))
    given = stratified(groups, [str(row["label"]) for row in found], split.rule, known)
    for row, name in zip(found, given, strict=True):
        yield {**row, "split": row["split"] or name}


def _splits_in(table: Path) -> dict[str, str]:
    """The splits that a table gives to its videos; none where there is no table that can be read."""
    try:
        with table.open(encoding="utf-8", newline="") as text:
            return {row["video"]: row["split"] for row in csv.DictReader(text) if row.get("video") and row.get("split")}
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}


class _TrimmedVideos:
    """The files of a Kinetics download, in a folder or in its subfolders by label. Each folder is listed once."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ManifestError(f"{root}: is not a folder; give the folder that holds the trimmed videos")
        self._root = root
        self._names_in: dict[str, dict[str, str]] = {}

    def find(self, stem: str, label: str) -> str | None:
        """The path of a video relative to the root, None where there is none."""
        folders = [""]
        if label and "/" not in label and label not in (".", ".."):
            folders += [label, label.replace(" ", "_")]
        for folder in folders:
            if folder not in self._names_in:
                path = self._root / folder
                names = [file.name for file in path.iterdir()] if path.is_dir() else []
                # By the name with its suffix in lower case: a camera's or a copying program's .MP4 is meant as well.
                self._names_in[folder] = {f"{Path(name).stem}{Path(name).suffix.lower()}": name for name in names}
            for suffix in (".mp4", ".mkv", ".webm"):
                if name := self._names_in[folder].get(stem + suffix):
                    return f"{folder}/{name}" if folder else name
        return None


def _kinetics_rows(file: Path, trimmed: _TrimmedVideos | None, imported: Imported) -> Iterator[dict[str, object]]:
    """Rows of the table, by :data:`COLUMNS`."""
    for line, row in _read_list(file, imported):
        identity, label = row["youtube_id"], row.get("label") or ""
        span = _whole_seconds(row["time_start"], row["time_end"])
        if not all(map(encodable, row.values())):
            imported.leave_out(f"{line}: not UTF-8; save the list as UTF-8", "unusable")
        elif not re.fullmatch(r"[A-Za-z0-9_-]{11}", identity):
            given = f"column 'youtube_id' is {shown(identity)}"
            imported.leave_out(f"{line}: {given}: a YouTube id has 11 letters, digits, _ or -", "unusable")
        elif span is None:
            given = f"columns 'time_start' and 'time_end' are {shown(row['time_start'])} and {shown(row['time_end'])}"
            imported.leave_out(f"{line}: {given}: write whole seconds, start first", "unusable")
        else:
            stem = f"{identity}_{span[0]:06d}_{span[1]:06d}"
            page = f"https://www.youtube.com/watch?v={identity}"
            cells = {
                "id": stem,
                "label": label,
                "split": row.get("split") or "",
                "license": "CC-BY" if row.get("is_cc") == "1" else "",
            }
            if trimmed is None:
                yield {**cells, "video": page, "start": span[0], "end": span[1], "source": "Kinetics"}
            elif (path := trimmed.find(stem, label)) is not None:
                yield {**cells, "video": _as_cell(path), "source": page}
            else:
                imported.leave_out(f"{stem}.mp4", "missing")


def _read_list(file: Path, imported: Imported) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a Kinetics list, each after the name of its line for messages; an empty cell is ''.

    Lines that are no CSV are left out; a byte that is not UTF-8 is half of a surrogate pair.
    """
    needed = ("youtube_id", "time_start", "time_end")
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            rows = csv.DictReader(text, restval="", strict=True)
            absent = [name for name in needed if name not in (rows.fieldnames or ())]
            if absent:
                present = ", ".join(rows.fieldnames or ()).encode(errors="backslashreplace").decode() or "nothing"
                raise ManifestError(f"{file}: no column {', '.join(absent)}; it has {present}; is it a Kinetics list?")
            while True:
                before = rows.reader.line_num
                try:
                    row = next(rows, None)
                except csv.Error as error:
                    for line in range(before + 1, rows.reader.line_num + 1):  # an open quote takes lines along
                        imported.leave_out(f"{file.name} line {line}: {error}", "unusable")
                    continue
                if row is None:
                    return
                yield f"{file.name} line {rows.line_num}", {name: value for name, value in row.items() if name}
    except (OSError, csv.Error) as error:
        raise ManifestError(f"{file}: cannot be read: {error}; give a Kinetics list as UTF-8 CSV") from error


def _whole_seconds(start: str, end: str) -> tuple[int, int] | None:
    """Start and end in seconds (``417`` or ``417.0``), None where they are not whole seconds in that order."""
    match = re.fullmatch(r"(\d{1,6})(?:\.0*)? (\d{1,6})(?:\.0*)?", f"{start.strip()} {end.strip()}")
    span = (int(match[1]), int(match[2])) if match else (0, 0)
    return span if span[0] < span[1] else None


def _folder_rows(folder: Path, imported: Imported) -> Iterator[dict[str, object]]:
    """Rows of the table, by :data:`COLUMNS`, in the order of the paths."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from _rows_of_folders(folder, imported, threads)


def _rows_of_folders(folder: Path, imported: Imported, threads: ThreadPoolExecutor) -> Iterator[dict[str, object]]:
    """As :func:`_folder_rows`, with threads that look into files."""

    def content(path: str) -> Content:
        return content_of(folder / path)

    for current, names in _folders(folder, imported):
        parts = Path(current).relative_to(folder).parts
        if len(parts) == 1 and parts[0] not in SPLIT_FOLDERS and parts[0].lower() in _OTHER_SPLIT_WORDS:
            imported.like_splits.append(parts[0])
        paths = []
        for path in ("/".join((*parts, name)) for name in sorted(names) if not name.startswith(".")):
            if path.isprintable():
                paths.append(path)
            else:  # whatever it holds, no table can name it
                imported.leave_out(ascii(path), "unusable")
        for path, found in zip(paths, threads.map(content, paths), strict=True):
            if found != "video":
                imported.pass_over(path, found)
                continue
            split = parts[0] if parts and parts[0] in SPLIT_FOLDERS else ""
            yield {"video": _as_cell(path), "label": "/".join(parts[1:] if split else parts), "split": split}


def _folders(top: Path, imported: Imported) -> Iterator[tuple[str, list[str]]]:
    """Folders below ``top`` with the names of their files, each folder once; links to folders are followed.

    A folder below ``top`` is read at its own place, any other through the link nearest to ``top``.
    """

    def unusable(error: OSError) -> None:
        imported.leave_out(ascii(error.filename), "unusable")

    own: set[tuple[int, int]] | None = None  # folders below top that are no links, and those reached by links so far
    linked: set[str] = set()
    for current, subfolders, names in os.walk(top, onerror=unusable, followlinks=True):
        kept = []
        for name in sorted(name for name in subfolders if not name.startswith(".")):
            path = os.path.join(current, name)  # noqa: PTH118 - as os.walk writes it
            if current in linked or os.path.islink(path):  # noqa: PTH114
                if own is None:
                    own = {_inode(folder) for folder, _, _ in os.walk(top)}
                if (inode := _inode(path)) in own:
                    imported.leave_out(f"{path!a}: leads to a folder whose videos have rows already", "repeated")
                    continue
                own.add(inode)
                linked.add(path)
            kept.append(name)
        subfolders[:] = kept
        yield current, names


def _inode(folder: str) -> tuple[int, int]:
    """What tells a folder from all others, by whatever path it is reached."""
    found = os.stat(folder)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _accepted(rows: Iterable[Mapping[str, object]], imported: Imported) -> Iterator[Mapping[str, object]]:
    """The rows that the reader of tables accepts; the others are left out, each with what is wrong with it."""
    table, waiting = Table(location=imported.table.as_posix(), written=imported.table.name), iter(rows)
    while chunk := list(islice(waiting, _ROWS_CHECKED_AT_ONCE)):
        cells = {field: pa.array([str(row.get(field, "")) for row in chunk], pa.string()) for field in COLUMNS}
        numbers = np.arange(len(chunk))
        raw = RawBatch(table.written, {field: field for field in COLUMNS}, numbers, cells)
        found = checked(raw, table, media_root="", problems=Problems())
        for row, problem in zip(chunk, found.column("problem").to_pylist(), strict=True):
            if problem is None:
                yield row
            else:
                imported.leave_out(f"{shown(row['video'])}: {problem}", "unusable")


def _as_cell(path: str) -> str:
    """A relative path, with ``./`` in front where a table's reader would take it for a URI or trim leading blanks."""
    return f"./{path}" if re.match(SCHEME, path) or path != path.lstrip() else path


def _table_for(manifest: Path, overwrite: Overwrite, *, source_list: Path | None = None) -> Path:
    """The path of the table to write, once it is clear that both files may be written."""
    if manifest.suffix not in (".yaml", ".yml"):
        raise ManifestError(f"{manifest}: a manifest's name ends in .yaml")
    table = manifest.with_suffix(".csv")
    if source_list and table.absolute() == source_list.absolute():
        raise ManifestError(f"{table}: the table would replace the list itself; give another --output")
    for path in (manifest, table):
        if overwrite == "no" and path.exists():
            raise ManifestError(f"{path}: already exists; give another --output, or replace it with --overwrite")
    return table


def _write_table(imported: Imported, rows: Iterable[Mapping[str, object]], *, empty: str) -> None:
    """Write the rows that a reader of tables accepts; without any, ``empty`` is the beginning of the error."""
    labels: set[object] = set()
    with atomic_file(imported.table) as binary, io.TextIOWrapper(binary, encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in _accepted(rows, imported):
            writer.writerow(row)
            imported.unlabelled += not row["label"]
            imported.rows += 1
            imported.rows_by_split[str(row["split"] or "train")] += 1
            labels.add(row["label"])
        if not imported.rows:
            counts = {"without a file": imported.missing, "unusable": imported.unusable}
            empty += f"; passed over: {imported.passed_over_words()}" if imported.passed_over else ""
            left_out = "".join(f"; {count_text(count, 'row')} {why}" for why, count in counts.items() if count)
            raise ManifestError(empty + left_out + (f", such as {imported.examples[0]}" if left_out else ""))
    imported.labels = len(labels - {""})


def _write_manifest(imported: Imported, pipeline: str | Path, *, media_root: Path | None) -> None:
    """Write the manifest beside its table; ``media_root`` None is the manifest's own folder."""
    named = pipeline if pipeline in pipelines() else _relative(Path(pipeline), imported.manifest)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", imported.manifest.stem).strip("._-") or "dataset"
    lines = [
        f"name: {_quoted(name)}",
        "version: 0.1.0",
        f"license: {PLACEHOLDERS['license']}                 # replace: the license of the dataset",
        f"contact: {PLACEHOLDERS['contact']}    # replace: whom people in the videos can reach",
        f"pipeline: {_quoted(str(named))}",
        f"output: {_quoted(f'datasets/{name}')}",
        f"media_root: {_quoted(_relative(media_root, imported.manifest) if media_root else '.')}",
        "tables:",
        f"  - path: {_quoted(imported.table.name)}",
        f"rows_per_part: {_rows_per_part(imported.rows)}",
        "store_video: none",
    ]
    imported.manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows_per_part(rows: int) -> int:
    """Small parts for small datasets, as a part is written again as a whole where a row of it changes; in few steps, so
    that a folder that grows a little keeps its parts."""
    return next((size for size in _PART_SIZES if rows <= _PARTS * size), _PART_SIZES[-1])


def _relative(path: Path, manifest: Path) -> str:
    """A path as a manifest states it: relative to the manifest's folder."""
    return Path(os.path.relpath(path.absolute(), manifest.absolute().parent)).as_posix()


def _quoted(text: str) -> str:
    """A YAML scalar, written as a JSON string, which YAML reads the same."""
    return json.dumps(text, ensure_ascii=False)
