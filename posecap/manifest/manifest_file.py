"""The manifest: one YAML file that says what a dataset is made of, read strictly.

Unknown and repeated keys and YAML anchors are rejected. Every message names file, line, key, value and remedy.
The keys::

    name: my-dataset               # letters, digits, . _ -
    version: 1.0.0
    license: CC-BY-4.0             # of the dataset; rows may name their own
    contact: me@example.org        # e-mail address or web address
    description: …                 # optional
    pipeline: ../pipelines/demo.py # relative to the manifest; code, so always a local file
    output: ../datasets/mine       # relative to the manifest; a local directory
    media_root: .                  # relative video paths start here; a directory or a URL
    tables:
      - path: rows.csv             # CSV, JSONL or Parquet; local, or a URL that fsspec opens
        columns: {video: uri}      # field of a row -> column of the table; null leaves the field unread
        video_prefix: https://…/   # put before every cell of video, for tables that hold ids only
        defaults: {split: train}   # for empty cells of split, license, source, label
    rows_per_part: 1000            # rows in one shard
    store_video: none              # none or clip
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from posecap.manifest.strict_yaml import LINE, Keys, ManifestError, open_keys, suffix_of

ROW_FIELDS = ("id", "video", "start", "end", "label", "caption", "captions", "split", "license", "source")
DEFAULT_FIELDS = ("split", "license", "source", "label")
TABLE_FORMATS = (".csv", ".jsonl", ".parquet")
MOST_ROWS_PER_PART = 100_000

SPLIT_NAME = r"[A-Za-z0-9_-]{1,64}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"
_PROSE = r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]{1,10000}"
_CONTACT = r"[^@\s]+@[^@\s]+\.[^@\s]+|https?://\S+"

StoreVideo = Literal["none", "clip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of rows: where it is, and how its columns are called.

    ``location`` is an absolute path or a URL; ``written`` is the path as the manifest has it, for messages.
    """

    location: str
    written: str
    columns: Mapping[str, str | None] = field(default_factory=dict)
    video_prefix: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        return suffix_of(self.location)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A read manifest, paths resolved. ``media_root`` is an absolute directory or a URL without trailing slash."""

    path: Path
    name: str
    version: str
    license: str
    contact: str
    description: str
    pipeline: Path
    output: Path
    media_root: str
    tables: tuple[Table, ...]
    rows_per_part: int = 1000
    store_video: StoreVideo = "none"


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Its tables are not opened: :func:`posecap.manifest.tables.read_tables` does that.

    Raises:
        ManifestError: the file is missing, is no YAML mapping, or has a key or value that is not allowed.
    """
    folder = path.absolute().parent
    keys = open_keys(path)
    manifest = Manifest(
        path=path,
        name=keys.text("name", _NAME, "letters, digits, '.', '_' and '-', such as kinetics-poses"),
        version=keys.text("version", _VERSION, "a version such as 1.0.0"),
        license=keys.text("license", LINE, "one line such as CC-BY-4.0"),
        contact=keys.text("contact", _CONTACT, "an e-mail or web address that people in the videos can reach"),
        description=keys.text("description", _PROSE, "plain text of at most 10,000 characters", default=""),
        pipeline=keys.local("pipeline", folder, "a Python file on this machine; it is code and is never fetched"),
        output=keys.local("output", folder, "a local directory; copy the finished dataset to its store afterwards"),
        media_root=keys.place("media_root", folder, default="."),
        tables=tuple(_table(entry, folder) for entry in keys.entries("tables")),
        rows_per_part=keys.whole("rows_per_part", 1, MOST_ROWS_PER_PART, default=1000),
        store_video=cast(StoreVideo, keys.word("store_video", ("none", "clip"), default="none")),
    )
    keys.done()
    return manifest


def _table(keys: Keys, folder: Path) -> Table:
    location = keys.place("path", folder)
    written = keys.text("path", LINE, "")
    columns = keys.pairs("columns", ROW_FIELDS, "the name of the table's column, as 'video: uri'")
    video_prefix = keys.text("video_prefix", LINE, "what comes before every video, as https://host/", default="")
    defaults = keys.pairs("defaults", DEFAULT_FIELDS, "a value for empty cells, as 'split: train'")
    keys.done()
    if suffix_of(location) not in TABLE_FORMATS:
        raise keys.wrong("path", f"a table that ends in {', '.join(TABLE_FORMATS)}")
    if defaults.get("split") and not re.fullmatch(SPLIT_NAME, defaults["split"] or ""):
        raise keys.wrong("defaults", "a split of letters, digits, '_' and '-'")
    return Table(
        location=location,
        written=written,
        columns=columns,
        video_prefix=video_prefix,
        defaults={name: value for name, value in defaults.items() if value},
    )


__all__ = ["Manifest", "ManifestError", "Table", "read_manifest"]
