"""``croissant.json``: the dataset in MLCommons Croissant 1.0, for search engines and other loaders.

Every shard and index is listed with its hash, and the index is described column by column as a record set.
See http://mlcommons.org/croissant/1.0 for the format.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from posecap.release.dataset_info import DatasetInfo, license_url
from posecap.shards import INDEX_SCHEMA
from posecap.shards.atomic_commit import write_file

CROISSANT_FILE = "croissant.json"

_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MEDIA_TYPES: Final = {
    ".tar": "application/x-tar",
    ".parquet": "application/x-parquet",
    ".columns": "application/vnd.apache.arrow.file",
}
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
_SAME_AS: Final = {"license": "https://schema.org/license", "captions": "https://schema.org/caption"}


def make_croissant(info: DatasetInfo, *, published: date, url: str | None = None) -> dict[str, Any]:
    """The dataset as JSON-LD.

    Args:
        url: page of the dataset; the contact, where that is a web address, when None.
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
        "citeAs": f"@misc{{{info.name}, title={{{info.name}}}, info={{{info.version}}}, "
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


def write(document: dict[str, Any], root: Path) -> Path:
    """Write ``croissant.json`` into a dataset's folder, whole or not at all."""
    path = root / CROISSANT_FILE
    write_file(path, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
    return path


def _sets(info: DatasetInfo) -> list[dict[str, Any]]:
    sets = [
        ("index", "one row for each clip", ".parquet", "index/*.parquet"),
        ("samples", "WebDataset shards: skeletons, times, vectors, captions, facts", ".tar", "data/*/pose-*.tar"),
        ("columns", "the same arrays for memory-mapped training", ".columns", "data/*/pose-*.columns"),
    ]
    if info.store_video == "clip":
        sets.append(("videos", "the clips as mp4, under the samples' keys", ".tar", "data/*/video-*.tar"))
    return [
        {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "description": about,
            "encodingFormat": _MEDIA_TYPES[ending],
            "includes": pattern,
        }
        for name, about, ending, pattern in sets
    ]


def _files(info: DatasetInfo) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": file.path,
            "name": file.path,
            "contentUrl": file.path,
            "contentSize": f"{file.size_bytes} B",
            "encodingFormat": _MEDIA_TYPES[Path(file.path).suffix],
            "sha256": file.sha256,
        }
        for file in info.files
    ]


def _splits(info: DatasetInfo) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "splits/name",
                "name": "name",
                "description": "name of the split",
                "dataType": "sc:Text",
            }
        ],
        "data": [{"splits/name": split} for split in info.splits],
    }


def _clips() -> dict[str, Any]:
    """The index without the columns of byte offsets."""
    described = [field for field in INDEX_SCHEMA if not field.name.endswith(("_offset", "_size"))]
    return {
        "@type": "cr:RecordSet",
        "@id": "clips",
        "name": "clips",
        "description": "the index: one record for each clip",
        "key": {"@id": "clips/key"},
        "field": [_field(field) for field in described],
    }


def _field(column: Any) -> dict[str, Any]:
    kind = column.type.value_type if pa.types.is_list(column.type) else column.type
    kinds = ((pa.types.is_integer, "sc:Integer"), (pa.types.is_floating, "sc:Float"))
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"clips/{column.name}",
        "name": column.name,
        "description": _ABOUT.get(column.name, column.name.replace("_", " ")),
        "dataType": next((name for is_kind, name in kinds if is_kind(kind)), "sc:Text"),
        "source": {"fileSet": {"@id": "index"}, "extract": {"column": column.name}},
    }
    if pa.types.is_list(column.type):
        field["repeated"] = True
    if column.name == "split":
        field["references"] = {"field": {"@id": "splits/name"}}
    if column.name in _SAME_AS:
        field["equivalentProperty"] = _SAME_AS[column.name]
    return field
