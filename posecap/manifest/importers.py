"""Manifests from what the field already has: Kinetics lists and folders of videos.

Each function writes two files, a table and a manifest that names it; existing files are replaced only with
``overwrite="yes"``. License and contact cannot be guessed: the manifest has words in their place, to be replaced.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from posecap.files import atomic_file
from posecap.manifest.manifest_file import ManifestError, shown
from posecap.manifest.rows import SCHEME, Problems

VIDEO_SUFFIXES = (
    ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()  # noqa: SIM905 (reads well)
)
SPLIT_FOLDERS = ("train", "val", "test")
COLUMNS = ("id", "video", "start", "end", "label", "split", "license", "source")
MOST_EXAMPLES = 5
TO_FILL = ("license", "contact")

Overwrite = Literal["yes", "no"]


@dataclass
class Imported:
    """What was written, and what was left out.

    ``missing`` counts rows whose file is not there, ``unusable`` files whose names no table can hold and folders that
    cannot be read; ``examples`` names the first few of both. ``to_fill`` are the manifest's keys for the user to fill.
    """

    manifest: Path
    table: Path
    rows: int = 0
    rows_by_split: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    missing: int = 0
    unusable: int = 0
    examples: list[str] = field(default_factory=list)
    to_fill: tuple[str, ...] = TO_FILL

    def leave_out(self, name: str, why: Literal["missing", "unusable"]) -> None:
        self.missing += why == "missing"
        self.unusable += why == "unusable"
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(name)


def from_kinetics(
    file: Path, manifest: Path, *, pipeline: Path, videos: Path | None = None, overwrite: Overwrite = "no"
) -> Imported:
    """A manifest from a Kinetics list: ``youtube_id,time_start,time_end`` and, where given, label, split, is_cc.

    Without ``videos``, a row's video is its YouTube page and its span is the list's. With ``videos``, it is the
    trimmed file ``{id}_{start:06d}_{end:06d}.mp4`` (or .mkv, .webm) in that folder or in a folder named after the
    label, used whole; rows whose file is not there are left out and counted.

    Args:
        manifest: the YAML to write; its table lies beside it with the suffix ``.csv``.
        pipeline: the pipeline file that the manifest names.

    Raises:
        ManifestError: the list lacks a column or has rows that are wrong, no row is left, or a file is in the way.
    """
    made = Imported(manifest, _table_for(manifest, overwrite, reading=file))
    clips = _Clips(videos) if videos else None
    _write_table(made, _kinetics_rows(file, clips, made))
    _write_manifest(made, pipeline, media_root=videos)
    return made


def from_folder(folder: Path, manifest: Path, *, pipeline: Path, overwrite: Overwrite = "no") -> Imported:
    """A manifest from every video below a folder, folder by folder in the order of their names.

    The label is the path of a video's folder relative to ``folder``; a top folder named train, val or test is the
    split and no part of the label. Hidden files and folders are passed over.

    Raises:
        ManifestError: there is no such folder, no video in it, or a file is in the way.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder}: is no folder; give the folder that holds the videos")
    made = Imported(manifest, _table_for(manifest, overwrite))
    _write_table(made, _folder_rows(folder, made))
    _write_manifest(made, pipeline, media_root=folder)
    return made


class _Clips:
    """Trimmed Kinetics files in a folder; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ManifestError(f"{root}: is no folder; give the folder that holds the clips")
        self._root = root
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, stem: str, label: str) -> str | None:
        """The path of a clip relative to the root."""
        folders = [""]
        if label and "/" not in label and label not in (".", ".."):
            folders += [label, label.replace(" ", "_")]
        for folder in folders:
            if folder not in self._listed:
                path = self._root / folder
                self._listed[folder] = frozenset(each.name for each in path.iterdir()) if path.is_dir() else frozenset()
            for suffix in (".mp4", ".mkv", ".webm"):
                if stem + suffix in self._listed[folder]:
                    return f"{folder}/{stem}{suffix}" if folder else stem + suffix
        return None


def _kinetics_rows(file: Path, clips: _Clips | None, made: Imported) -> Iterator[dict[str, object]]:
    problems = Problems()
    for place, row in _listed(file):
        identity, label = row["youtube_id"], row.get("label") or ""
        span = _whole_seconds(row["time_start"], row["time_end"])
        if not re.fullmatch(r"[A-Za-z0-9_-]{11}", identity):
            problems.add(
                place, f"column 'youtube_id' is {shown(identity)}: a YouTube id has 11 letters, digits, _ or -"
            )
        elif span is None:
            times = f"{shown(row['time_start'])} and {shown(row['time_end'])}"
            problems.add(place, f"columns 'time_start' and 'time_end' are {times}: write whole seconds, start first")
        else:
            stem = f"{identity}_{span[0]:06d}_{span[1]:06d}"
            page = f"https://www.youtube.com/watch?v={identity}"
            found = {
                "id": stem,
                "label": label,
                "split": row.get("split") or "",
                "license": "CC-BY" if row.get("is_cc") == "1" else "",
            }
            clip = clips.find(stem, label) if clips else None
            if clip:
                yield {**found, "video": _spelled(clip), "source": page}
            elif clips:
                made.leave_out(f"{stem}.mp4", "missing")
            else:
                yield {**found, "video": page, "start": span[0], "end": span[1], "source": "Kinetics"}
        if problems.full:
            break
    problems.raise_any()


def _listed(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a Kinetics list with their places; an empty cell is ''."""
    needed = ("youtube_id", "time_start", "time_end")
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.DictReader(text, restval="", strict=True)
            absent = [name for name in needed if name not in (rows.fieldnames or ())]
            if absent:
                there = ", ".join(rows.fieldnames or ()) or "nothing"
                raise ManifestError(f"{file}: no column {', '.join(absent)}; it has {there}; is it a Kinetics list?")
            for row in rows:
                yield f"{file.name} row {rows.line_num}", {name: value for name, value in row.items() if name}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{file}: cannot be read: {error}; give a Kinetics list as UTF-8 CSV") from error


def _whole_seconds(start: str, end: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d{1,6})(?:\.0*)? (\d{1,6})(?:\.0*)?", f"{start.strip()} {end.strip()}")
    span = (int(match[1]), int(match[2])) if match else (0, 0)
    return span if span[0] < span[1] else None


def _folder_rows(folder: Path, made: Imported) -> Iterator[dict[str, object]]:
    for here, inner, names in os.walk(folder, onerror=lambda error: made.leave_out(ascii(error.filename), "unusable")):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        at = Path(here).relative_to(folder).parts
        for name in sorted(names):
            if name.startswith(".") or Path(name).suffix.lower() not in VIDEO_SUFFIXES:
                continue
            path = "/".join((*at, name))
            if not path.isprintable():
                made.leave_out(ascii(path), "unusable")
                continue
            split = at[0] if at and at[0] in SPLIT_FOLDERS else ""
            yield {"video": _spelled(path), "label": "/".join(at[1:] if split else at), "split": split}


def _spelled(path: str) -> str:
    """A relative path so that a table reads it back: not as a URI, and with its leading blanks."""
    return f"./{path}" if re.match(SCHEME, path) or path != path.lstrip() else path


def _table_for(manifest: Path, overwrite: Overwrite, *, reading: Path | None = None) -> Path:
    if manifest.suffix not in (".yaml", ".yml"):
        raise ManifestError(f"{manifest}: a manifest's name ends in .yaml")
    table = manifest.with_suffix(".csv")
    if reading and table.absolute() == reading.absolute():
        raise ManifestError(f"{table}: is the list itself; give the manifest another name, so that the list stays")
    for path in (manifest, table):
        if overwrite == "no" and path.exists():
            raise ManifestError(f"{path}: is there already; give another name, or allow it to be overwritten")
    return table


def _write_table(made: Imported, rows: Iterable[Mapping[str, object]]) -> None:
    labels: set[object] = set()
    with atomic_file(made.table) as binary, io.TextIOWrapper(binary, encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            made.rows += 1
            made.rows_by_split[str(row["split"] or "train")] += 1
            labels.add(row["label"])
        if not made.rows:
            left_out = f"; {made.missing:,} rows have no file, such as {made.examples[0]}" if made.missing else ""
            raise ManifestError(f"{made.table}: there is no row to write{left_out}")
    made.labels = len(labels - {""})


def _write_manifest(made: Imported, pipeline: Path, *, media_root: Path | None) -> None:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", made.manifest.stem).strip("._-") or "dataset"
    lines = [
        f"name: {_quoted(name)}",
        "version: 0.1.0",
        "license: unknown                 # replace: the license of the dataset",
        "contact: somebody@example.org    # replace: whom people in the videos can reach",
        f"pipeline: {_quoted(_relative(pipeline, made.manifest))}",
        f"output: {_quoted(f'datasets/{name}')}",
        f"media_root: {_quoted(_relative(media_root, made.manifest) if media_root else '.')}",
        "tables:",
        f"  - path: {_quoted(made.table.name)}",
        "rows_per_part: 1000",
        "store_video: none",
    ]
    made.manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _relative(path: Path, manifest: Path) -> str:
    return Path(os.path.relpath(path.absolute(), manifest.absolute().parent)).as_posix()


def _quoted(text: str) -> str:
    """A YAML scalar; JSON's strings are YAML's."""
    return json.dumps(text, ensure_ascii=False)
