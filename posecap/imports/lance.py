"""Reads the Lance dataset that ``posecap export --format lance`` writes, in its newest version.

Rows that were deleted and columns that were added with Lance are passed over, the latter if they have names of extra
members. Only files inside the folder are read, though Lance could follow a manifest elsewhere. Lance gives batches of
about :data:`_BATCH_BYTES`; what a damaged or hostile file makes Lance itself allocate is not bounded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from posecap.export import package
from posecap.imports.parquet import check_columns, samples_of
from posecap.shards import COLUMNS_SCHEMA, ShardError
from posecap.types import Sample

_BATCH_BYTES = 32 << 20
"""Of what is decoded at once, about: our choice, as the export writes it."""


def files(source: Path) -> list[Path]:
    """All files of the dataset; none where it is no dataset of Lance."""
    if not (source / "_versions").is_dir():
        return []
    return [path for path in sorted(source.rglob("*")) if path.is_file()]


def samples(source: Path) -> Iterator[Sample]:
    """The samples of the dataset, one after another.

    Raises:
        ModuleNotFoundError: Lance is not installed.
        pyarrow.ArrowException, ShardError: it is damaged, or not what an export writes.
    """
    lance = package("lance", extra="lance")
    try:
        dataset = lance.dataset(source)
        _check_places(dataset, source)
        video = dataset.schema.field("video") if "video" in dataset.schema.names else None
        wanted = COLUMNS_SCHEMA
        if video is not None and pa.types.is_fixed_size_list(video.type):
            vector = pa.field("video", pa.list_(pa.field("item", pa.float32()), video.type.list_size), nullable=False)
            wanted = wanted.set(wanted.get_field_index("video"), vector)
        check_columns(dataset.schema, wanted)
        batches = dataset.to_batches(
            columns=COLUMNS_SCHEMA.names, batch_size_bytes=_BATCH_BYTES, batch_readahead=1, scan_in_order=True
        )
        for batch in batches:
            yield from samples_of(pa.Table.from_batches([batch]))
    except OSError as error:  # which Lance raises of damaged files, too
        raise ShardError(f"Lance cannot read it: {error}") from error


def _check_places(dataset: Any, source: Path) -> None:
    """Raise ShardError where a file is a symbolic link, or the dataset's manifest names data files outside of its
    folder."""
    for path in source.rglob("*"):
        if path.is_symlink():
            raise ShardError(f"{path.relative_to(source)} is a symbolic link")
    inside = {path.relative_to(source / "data").as_posix() for path in (source / "data").rglob("*")}
    for fragment in dataset.get_fragments():
        for file in fragment.data_files():
            if file.base_id is not None or file.path not in inside:
                raise ShardError(f"its manifest names {file.path}, which is not in its folder 'data'")
