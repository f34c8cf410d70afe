"""From table cells to checked rows: which columns are read, what a row needs, and where its video is."""

from __future__ import annotations

import posixpath
import re
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from posecap import legacy
from posecap.manifest.columns import Problems, RawBatch, captions, seconds, text
from posecap.manifest.manifest_file import ROW_FIELDS, SPLIT_NAME, ManifestError, Table
from posecap.manifest.strict_yaml import is_url

SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]+:"


def located(uri: str, media_root: str) -> str:
    """An absolute path or URL for ``uri``; relative ones are resolved against ``media_root``, a directory or a URL."""
    if not media_root or uri.startswith("/") or re.match(SCHEME, uri):
        return uri
    return f"{media_root.rstrip('/')}/{uri.removeprefix('./')}"


ROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("label", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("split", pa.string()),
        ("license", pa.string()),
        ("source", pa.string()),
        ("table", pa.string()),
        ("row", pa.int64()),
    ]
)
"""Checked rows. ``id`` is null where the table gives none; a ``uri`` below a local media root is relative to it."""

_ODD_PATH = r"//|(^|/)\.\.?(/|$)|[^/]/$"


def columns_of(table: Table, names: list[str]) -> dict[str, str]:
    """Which column of a table gives which field of a row.

    Raises:
        ManifestError: a mapped column is not there, ``video`` is not there, or a column's name is nearly a
            field's name, so that its values would be lost unseen.
    """
    there = f"the table has {', '.join(map(repr, names[:30]))}"
    found: dict[str, str] = {}
    for field in ROW_FIELDS:
        column = table.columns.get(field, legacy.column_of(field, names))
        if column is not None and column in names:
            if names.count(column) > 1:
                raise ManifestError(f"{table.written}: column '{column}' stands there twice; rename one of them")
            found[field] = column
        elif column is not None and field in table.columns:
            raise ManifestError(f"{table.written}: no column '{column}', which 'columns' maps to '{field}'; {there}")
    if "video" not in found:
        raise ManifestError(f"{table.written}: no column 'video'; {there}; add 'columns: {{video: THAT_COLUMN}}'")
    absent = [field for field in ROW_FIELDS if field not in found and field not in table.columns]
    for name in names:
        near = get_close_matches(name, absent, n=1, cutoff=0.8) if name not in found.values() else []
        if near:
            raise ManifestError(
                f"{table.written}: column '{name}' is nearly '{near[0]}'; add 'columns: {{{near[0]}: {name}}}' to read "
                f"it, or 'columns: {{{near[0]}: null}}' to leave it out"
            )
    return found


def checked(raw: RawBatch, table: Table, *, media_root: str, problems: Problems) -> pa.RecordBatch:
    """Raw cells as a batch of :data:`ROW_SCHEMA`; what is wrong goes to ``problems``."""
    words = {name: text(raw, name, problems) for name in ("id", "video", "label", "split", "license", "source")}
    _check_words(raw, words, problems)
    if table.video_prefix:
        words["video"] = pc.binary_join_element_wise(table.video_prefix, words["video"], "")
    start, end = _spans(raw, problems)
    columns = {
        "id": words["id"],
        "uri": _located(raw, words["video"], media_root, problems),
        "start": start,
        "end": end,
        "label": words["label"],
        "captions": captions(raw, problems),
        "split": words["split"],
        "license": words["license"],
        "source": words["source"],
        "table": pa.repeat(table.written, len(raw.numbers)),
        "row": pa.array(raw.numbers),
    }
    for field, otherwise in {"split": "train", **table.defaults}.items():
        columns[field] = pc.fill_null(columns[field], otherwise)
    return pa.RecordBatch.from_arrays([columns[name] for name in ROW_SCHEMA.names], schema=ROW_SCHEMA)


def _check_words(raw: RawBatch, words: dict[str, pa.Array], problems: Problems) -> None:
    missing = pc.is_null(words["video"])
    problems.flag(raw, missing, "video", words["video"], "write a path or a URI, or take the row out")
    no_split = pc.invert(pc.match_substring_regex(words["split"], f"^{SPLIT_NAME}$"))
    problems.flag(raw, no_split, "split", words["split"], "use only letters, digits, '_' and '-', as train")
    reserved = pc.match_substring_regex(words["id"], r"~\d+$")
    problems.flag(raw, reserved, "id", words["id"], "'~' and digits at the end name repeated rows; choose another id")


def _spans(raw: RawBatch, problems: Problems) -> tuple[pa.Array, pa.Array]:
    """Starts and ends in seconds; a row may give only one of them (from there on, or up to there)."""
    start, end = seconds(raw, "start", problems), seconds(raw, "end", problems)
    inverted = pc.less_equal(end, pc.fill_null(start, 0.0))
    problems.flag(raw, inverted, "end", end, "it is not after the start; is one of the two in the wrong column?")
    return start, end


def _located(raw: RawBatch, video: pa.Array, media_root: str, problems: Problems) -> pa.Array:
    """URIs as the plan keeps them: tidy paths, relative below a local media root, whole below a URL."""
    remote = pc.match_substring_regex(video, SCHEME)
    odd = pc.fill_null(pc.and_not(pc.match_substring_regex(video, _ODD_PATH), remote), False)
    if pc.any(odd).as_py():
        pairs = zip(video.to_pylist(), odd.to_pylist(), strict=True)
        video = pa.array([posixpath.normpath(path) if is_odd else path for path, is_odd in pairs], pa.string())
    below = media_root.rstrip("/") + "/"
    if not is_url(media_root):
        video = pc.if_else(pc.starts_with(video, below), pc.utf8_slice_codeunits(video, len(below)), video)
    outside = pc.match_substring_regex(video, r"^\.\.?(/|$)")
    problems.flag(raw, outside, "video", video, "it leads out of media_root; write the whole path, or move media_root")
    if is_url(media_root):
        whole = pc.or_(remote, pc.starts_with(video, "/"))
        return pc.if_else(whole, video, pc.binary_join_element_wise(below, video, ""))
    # A file named clip:1.mp4 must not be taken for a URI of the scheme clip when the plan is read.
    colon = pc.and_not(pc.match_substring_regex(video, SCHEME), remote)
    return pc.if_else(colon, pc.binary_join_element_wise("./", video, ""), video)
