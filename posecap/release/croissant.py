"""``croissant.json``: the dataset in MLCommons Croissant 1.0, for search engines and other loaders.

Every shard and index is listed with its hash, and the index is described column by column as a record set.
See http://mlcommons.org/croissant/1.0 for the format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from posecap.files import Written
from posecap.release.dataset_info import DatasetInfo, license_url
from posecap.shards import INDEX_SCHEMA

CROISSANT_FILE = "croissant.json"

# The @context that the specification of Croissant 1.0 recommends.
_CROISSANT_TERMS: Final = (
    "citeAs column conformsTo cr rai data dataType dct equivalentProperty examples extract field fileProperty "
    "fileObject fileSet format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "repeated replace samplingRate sc separator source subField transform"
)
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}
# By the ending of a file.
_MEDIA_TYPES: Final = {
    ".tar": "application/x-tar",
    ".parquet": "application/x-parquet",
    ".columns": "application/vnd.apache.arrow.file",
    ".arrow": "application/vnd.apache.arrow.file",
}
# Descriptions of the index's columns; one that is absent here is described by its name.
_ABOUT: Final = {
    "key": "name of the sample in its shard: 24 hex digits from source video, row and span",
    "part": "shard that holds the sample, as split/number",
    "fingerprint": "hash of pipeline, engine versions, weights and rows behind the part",
    "row_id": "row of the manifest that asked for the clip",
    "uri": "where the source video was fetched from",
    "source_id": "SHA-256 of the source video's bytes",
    "start_seconds": "start of the clip on the video's clock",
    "end_seconds": "end of the clip on the video's clock",
    "license": "license of the source video, as the manifest states it",
    "source": "where the source video comes from, as the manifest states it",
    "layout": "order and meaning of the joints",
    "M": "people tracked",
    "T": "frames",
    "J": "joints per person",
    "captions": "sentences about the clip",
    "caption_origins": "where each sentence comes from",
    "weights": "model files behind the sample, as name:SHA-256",
}
_VIDEOS: Final = "videos"
_VIDEO_FILE: Final = re.compile(r"data/[^/]+/video-\d+\.tar")
# Properties of schema.org with the meaning of a column.
_SAME_AS: Final = {"license": "https://schema.org/license", "captions": "https://schema.org/caption"}


def make_croissant(info: DatasetInfo, *, published: date, url: str | None = None) -> dict[str, Any]:
    """The dataset as JSON-LD.

    Args:
        published: day of publication.
        url: page of the dataset; None takes the contact if it is a web address, and states none otherwise.
    """
    page = url or (info.contact if info.contact.startswith(("http://", "https://")) else None)
    reach = "email" if "@" in info.contact and page != info.contact else "url"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": info.name,
        "version": info.version,
        "description": info.description or f"{info.clips} clips of people: skeletons, captions, feature vectors.",
        "license": license_url(info.license) or info.license,
        "creator": {"@type": "Organization", "name": info.contact, reach: info.contact},
        **({"url": page} if page else {}),
        "citeAs": f"@misc{{{info.name}, title={{{info.name}}}, edition={{{info.version}}}, "
        f"year={{{published.year}}}, note={{{info.contact}}}}}",
        "datePublished": published.isoformat(),
        "isLiveDataset": False,
        "keywords": ["skeleton", "pose estimation", "action recognition"],
        "rai:personalSensitiveInformation": [
            "Skeletons of people in videos; personal data where the person can be identified from the source video or "
            f"from the way they move. Removal on request: {info.contact}."
        ],
        "distribution": [*_sets(info), *_files(info)],
        "recordSet": [_splits(info), _clips()],
    }


def without_video(document: Mapping[str, Any], changed: Mapping[str, Written]) -> dict[str, Any]:
    """A document of :func:`make_croissant` for the same dataset without the clips as mp4.

    Args:
        changed: files that have other bytes there, by name.
    """
    distribution = []
    for node in document["distribution"]:
        if node["@id"] == _VIDEOS or _VIDEO_FILE.fullmatch(node["@id"]):
            continue
        if (file := changed.get(node["@id"])) is not None:
            node = {**node, "contentSize": f"{file.size_bytes} B", "sha256": file.sha256}
        distribution.append(node)
    return {**document, "distribution": distribution}


def _node(kind: str, identifier: str, *, name: str | None = None, **properties: Any) -> dict[str, Any]:
    """A node of the kinds that Croissant adds to schema.org; ``identifier`` is its name too where none is given."""
    return {"@type": f"cr:{kind}", "@id": identifier, "name": name or identifier, **properties}


def _sets(info: DatasetInfo) -> list[dict[str, Any]]:
    """Files of one kind together."""
    sets = [
        ("index", "one row for each clip", ".parquet", "index/*.parquet"),
        ("samples", "WebDataset shards: skeletons, times, vectors, captions, facts", ".tar", "data/*/pose-*.tar"),
        ("columns", "the same arrays for memory-mapped training", ".columns", "data/*/pose-*.columns"),
    ]
    if info.store_video == "clip":
        sets.append((_VIDEOS, "the clips as mp4, under the samples' keys", ".tar", "data/*/video-*.tar"))
    for name, member in info.extra.items():
        about = f"extra member of the samples, by their keys, made by {member.engine}"
        sets.append((name, about, ".arrow", f"extra/{name}/*.arrow"))
    return [
        _node("FileSet", name, description=about, encodingFormat=_MEDIA_TYPES[ending], includes=pattern)
        for name, about, ending, pattern in sets
    ]


def _files(info: DatasetInfo) -> list[dict[str, Any]]:
    """Each file, with its hash."""
    return [
        _node(
            "FileObject",
            file.path,
            contentUrl=file.path,
            contentSize=f"{file.size_bytes} B",
            encodingFormat=_MEDIA_TYPES[Path(file.path).suffix],
            sha256=file.sha256,
        )
        for file in info.files
    ]


def _splits(info: DatasetInfo) -> dict[str, Any]:
    name = _node("Field", "splits/name", name="name", description="name of the split", dataType="sc:Text")
    data = [{"splits/name": split} for split in info.splits]
    return _node("RecordSet", "splits", dataType="cr:Split", key={"@id": "splits/name"}, field=[name], data=data)


def _clips() -> dict[str, Any]:
    """The index without the columns of byte offsets."""
    fields = [_field(column) for column in INDEX_SCHEMA if not column.name.endswith(("_offset", "_size"))]
    about = "the index: one record for each clip"
    return _node("RecordSet", "clips", description=about, key={"@id": "clips/key"}, field=fields)


def _field(column: Any) -> dict[str, Any]:
    """One column (:class:`pyarrow.Field`) of the index."""
    is_list = pa.types.is_list(column.type)
    kind = column.type.value_type if is_list else column.type
    kinds = ((pa.types.is_integer, "sc:Integer"), (pa.types.is_floating, "sc:Float"))
    return _node(
        "Field",
        f"clips/{column.name}",
        name=column.name,
        description=_ABOUT.get(column.name, column.name.replace("_", " ")),
        dataType=next((name for is_kind, name in kinds if is_kind(kind)), "sc:Text"),
        source={"fileSet": {"@id": "index"}, "extract": {"column": column.name}},
        **({"repeated": True} if is_list else {}),
        **({"references": {"field": {"@id": "splits/name"}}} if column.name == "split" else {}),
        **({"equivalentProperty": _SAME_AS[column.name]} if column.name in _SAME_AS else {}),
    )
