"""Contents of a dataset on disk, as summarised in report, card and Croissant; identifiers and URLs of licenses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posecap.leakage import Audit
from posecap.outcomes import StageStats
from posecap.shards import INDEX_SCHEMA, Dataset, sidecars
from posecap.shards.extra import ListedMember, extra_path, read_extra_list, read_extra_part
from posecap.storage import Location, open_storage
from posecap.types import Quality

# Versions of each license for which the Hugging Face Hub has an identifier (its list of licenses for cards).
_CREATIVE_COMMONS: Final = {
    "by": ("2.0", "2.5", "3.0", "4.0"),
    "by-sa": ("3.0", "4.0"),
    "by-nc": ("2.0", "3.0", "4.0"),
    "by-nd": ("4.0",),
    "by-nc-nd": ("3.0", "4.0"),
    "by-nc-sa": ("2.0", "3.0", "4.0"),
}
# Licenses of data sets and code, by the Hub's identifier, with the page of their text.
_KNOWN: Final = {
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "mit": "https://opensource.org/license/mit",
    "bsd-2-clause": "https://opensource.org/license/bsd-2-clause",
    "bsd-3-clause": "https://opensource.org/license/bsd-3-clause",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    **{
        f"cc-{terms}-{version}": f"https://creativecommons.org/licenses/{terms}/{version}/"
        for terms, versions in _CREATIVE_COMMONS.items()
        for version in versions
    },
    "odbl": "https://opendatacommons.org/licenses/odbl/1-0/",
    "odc-by": "https://opendatacommons.org/licenses/by/1-0/",
    "pddl": "https://opendatacommons.org/licenses/pddl/1-0/",
    "cdla-permissive-2.0": "https://cdla.dev/permissive-2-0/",
    "gpl-3.0": "https://www.gnu.org/licenses/gpl-3.0.html",
    "agpl-3.0": "https://www.gnu.org/licenses/agpl-3.0.html",
}

# Identifiers of SPDX and usual short names, in lower case, for which the Hub has another one. The Hub does not tell
# "only" from "or later".
_OTHER_NAMES: Final = {
    "bsd-3": "bsd-3-clause",
    "bsd-2": "bsd-2-clause",
    "apache-2": "apache-2.0",
    "cc0": "cc0-1.0",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
    "gpl-3.0-only": "gpl-3.0",
    "gpl-3.0-or-later": "gpl-3.0",
    "gplv3": "gpl-3.0",
    "agplv3": "agpl-3.0",
    "agpl-3.0-only": "agpl-3.0",
    "agpl-3.0-or-later": "agpl-3.0",
}


def hub_identifier(license: str) -> str | None:
    """The identifier that the Hugging Face Hub gives a license (``CC BY 4.0`` → ``cc-by-4.0``).

    None for a license that :data:`_KNOWN` does not list, among them some that the Hub has.
    """
    written = re.sub(r"[\s,_-]+", "-", license.strip().lower())
    written = re.sub(r"-(licen[sc]e|version|international|universal)(?=-|$)", "", written)
    name = _OTHER_NAMES.get(written, written)
    return name if name in _KNOWN else None


def license_url(license: str) -> str | None:
    """URL of the license's text; the license itself where it is a URL; None for an unknown one."""
    if re.fullmatch(r"https?://\S+", license.strip()):
        return license.strip()
    identifier = hub_identifier(license)
    return _KNOWN[identifier] if identifier else None


QUALITY = tuple(f.name for f in fields(Quality))
"""Columns of the index with measures of skeletons."""
MODELS = tuple(name for name in INDEX_SCHEMA.names if name.endswith("_model"))
"""Columns of the index with names of engines, such as ``pose_model``."""
COLUMNS = (
    *("key", "split", "uri", "source_id", "start_seconds", "end_seconds", "M", "T", "J", "layout", "label", "license"),
    *("video_dimension", "text_dimension"),
    *QUALITY,
    *MODELS,
)
"""Columns of the index that are read: 0.2 kB a clip, so that a million clips fit in memory as one table."""
_DISTINCT = ("key", "uri", "source_id")
"""Of those, columns of text of which most clips have a value of their own."""

QUANTILES: Final = {"min": 0.0, "p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
"""Name → share of the clips that have a smaller value, as in the report."""
_EXAMPLES = 10
"""Spans of equal footage that are named: our choice, enough to see where they come from."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of the dataset, its path relative to the dataset's folder, as its part's sidecar lists it."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One version of a dataset: what its manifest says, how it was built, and what it contains.

    Args:
        contact: mail address or URL, for people in the videos.
        description: empty if the manifest has none.
        fingerprint: the pipeline's fingerprint (:mod:`posecap.pipeline`).
        index: :class:`pyarrow.Table` with :data:`COLUMNS`, without removed clips; columns of text in which values
            repeat may be dictionaries. A clip is [``start_seconds``, ``end_seconds``) on the clock of its source video;
            ``source_id`` is the SHA-256 of the video file (:data:`posecap.shards.INDEX_SCHEMA`).
        files: shards and indexes, in order of parts.
        stage_stats: outcomes of all rows and clips.
        audit: whether footage stands in several splits; None where nobody looked.
        lineage: ``packages`` name → version and ``weights`` name → SHA-256, as the pipeline states them.
        extra: extra members of the samples, by name (:mod:`posecap.shards.extra`).
    """

    name: str
    version: str
    license: str
    contact: str
    description: str
    store_video: Literal["none", "clip"]
    fingerprint: str
    lineage: Mapping[str, Mapping[str, str]]
    stage_stats: StageStats
    index: Any
    files: tuple[ListedFile, ...]
    audit: Audit | None = None
    extra: Mapping[str, ListedMember] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        """Number of clips, without removed ones."""
        return int(self.index.num_rows)

    @property
    def splits(self) -> list[str]:
        """Names of the splits that hold clips, in order."""
        return sorted(pc.unique(self.index["split"]).to_pylist())

    def by_split(self) -> list[dict[str, Any]]:
        """For each split its name (``split``), and numbers of clips, source ``videos``, people (of each clip, so a
        person in two clips counts twice), frames and hours."""
        rows = []
        for split in self.splits:
            here = pc.equal(self.index["split"], split)
            # A column at a time, for a copy of all would double the memory.
            part = {name: self.index[name].filter(here) for name in ("M", "T", "start_seconds", "end_seconds")}
            rows.append(
                {
                    "split": split,
                    "clips": len(part["M"]),
                    # A fetcher that downloads only the span of a row gives each row of a video its own file, so
                    # source_id counts too many; one file under several URIs makes uri count too many.
                    "videos": min(
                        pc.count_distinct(self.index[column].filter(here)).as_py() for column in ("source_id", "uri")
                    ),
                    "people": pc.sum(part["M"]).as_py(),
                    "frames": pc.sum(part["T"]).as_py(),
                    "hours": pc.sum(pc.subtract(part["end_seconds"], part["start_seconds"])).as_py() / 3600,
                }
            )
        return rows

    def counted(self, column: str) -> dict[str | None, int]:
        """Values of a text column with the number of clips that have each, the commonest first."""
        counts = pc.value_counts(self.index[column]).to_pylist()
        counts.sort(key=lambda entry: (-entry["counts"], entry["values"] is None, entry["values"] or ""))
        return {entry["values"]: entry["counts"] for entry in counts}

    def quality(self) -> dict[str, dict[str, float] | None]:
        """Quantiles and mean of each column of :class:`posecap.types.Quality`; None where no clip has it."""
        return {name: _summary(pc.drop_null(self.index[name])) for name in QUALITY}

    def content_duplicates(self) -> dict[str, Any]:
        """Footage that is in the dataset under several keys: the same span, to the microsecond, of the same bytes.

        ``spans``: the number of such spans; ``clips``: all clips of them, the first of each included; ``examples``: at
        most 10 spans with their smallest key.
        """
        # Whole microseconds as floats: a time may be beyond what 64-bit integers hold, in a dataset of damaged videos.
        spans = {name: pc.round(pc.multiply(self.index[name], 1e6)) for name in ("start_seconds", "end_seconds")}
        table = pa.table({"source_id": self.index["source_id"], **spans})
        order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])
        # Grouping takes more memory than sorting, so only clips that share their span with another one are grouped.
        same = np.ones(max(table.num_rows - 1, 0), dtype=bool)
        for name in table.column_names:
            column = table[name].take(order)
            same &= pc.equal(column.slice(1), column.slice(0, len(same))).to_numpy()
        with_neighbour = (np.append(same, False) | np.append(False, same))[: table.num_rows]
        shared = order.filter(pa.array(with_neighbour))
        table = table.take(shared).append_column("key", self.index["key"].take(shared))
        groups = table.group_by(["source_id", *spans])
        several = groups.aggregate([("key", "count"), ("key", "min")])
        examples = several.sort_by([("key_min", "ascending")]).slice(0, _EXAMPLES).to_pylist()
        return {
            "spans": several.num_rows,
            "clips": pc.sum(several["key_count"]).as_py() or 0,
            "examples": [
                {
                    "source_id": example["source_id"],
                    "start_seconds": example["start_seconds"] / 1e6,
                    "end_seconds": example["end_seconds"] / 1e6,
                    "clips": example["key_count"],
                    "first_key": example["key_min"],
                }
                for example in examples
            ],
        }


def _summary(values: Any) -> dict[str, float] | None:
    """Quantiles and mean of an Arrow column, to 6 decimals; None where it is empty."""
    if not len(values):
        return None
    found = zip(QUANTILES, pc.quantile(values, q=list(QUANTILES.values())).to_pylist(), strict=True)
    return {name: round(float(value), 6) for name, value in (*found, ("mean", pc.mean(values).as_py()))}


def read_index_columns(location: Location) -> Any:
    """The :data:`COLUMNS` of the index, over all parts of a dataset.

    Raises:
        ShardError: there is no dataset, or an index is damaged.
    """
    dataset = Dataset(location)
    tables = [dataset.part_index(part, list(COLUMNS)).take(rows) for part, rows in dataset.parts()]
    empty = pa.schema([INDEX_SCHEMA.field(name) for name in COLUMNS]).empty_table()
    return pa.concat_tables([_compact(table) for table in (empty, *tables)]).unify_dictionaries()


def _compact(table: Any) -> Any:
    """The table with each value once in columns of text in which values repeat."""
    for i, column in enumerate(table.schema):
        if pa.types.is_string(column.type) and column.name not in _DISTINCT:
            table = table.set_column(i, column.name, table[column.name].dictionary_encode())
    return table


def listed_files(location: Location) -> Iterator[ListedFile]:
    """Every file that the sidecars of a dataset list, part by part, by path; then those of extra members.

    Raises:
        ShardError: a sidecar is damaged.
    """
    for _, document in sidecars(location):
        for path, entry in sorted(document["files"].items()):
            yield ListedFile(path, entry["sha256"], entry["size_bytes"])
    for member, listed in read_extra_list(location).items():
        for part in listed.parts:
            sidecar = read_extra_part(location, member, part)
            if sidecar is not None:
                yield ListedFile(extra_path(member, part), sidecar.file["sha256"], sidecar.file["size_bytes"])


def write_summary(location: Location, name: str, content: str | Mapping[str, Any]) -> None:
    """Write a report, card or Croissant document, whole or not at all; what is not text is written as JSON.

    Raises:
        OSError: the disk or the object store (StorageError) is full or fails.
    """
    open_storage(location).write(name, content.encode() if isinstance(content, str) else summary_bytes(content))


def summary_bytes(document: Mapping[str, Any]) -> bytes:
    """A report or Croissant document as it is written."""
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
