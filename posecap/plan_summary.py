"""Counts over a plan and an estimate of the size of its dataset, for ``posecap plan``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from posecap.outcomes import largest_first
from posecap.plan import Plan
from posecap.size_estimate import ASSUMED_SECONDS, estimate
from posecap.uris import SCHEME

NOT_STATED = "not stated"
OTHERS = "(others)"
LOCAL = "local path"
MOST_KINDS = 1000
"""Different licenses or schemes that are counted by name; further ones are counted together as ``OTHERS``, since a
column that holds something else may have another word in every row."""
_SHOWN_KINDS = 20
"""Of them, the most frequent, which are printed; the rest is one line."""
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts over a plan; counts by license and by scheme are largest first. All but ``estimated_bytes`` count
    duplicates too.

    Args:
        shards: tars, of skeletons and, where it is stored, of video: at most, for parts may end without samples.
        duplicates: rows that repeat an earlier one.
        rows_by_scheme: by the beginning of the video's URI, such as ``https``; ``LOCAL`` where it has none.
        rows_without_text: with neither a label nor captions.
        rows_without_span: with neither a start nor an end.
        span_seconds: sum of the spans that have both ends.
        estimated_bytes: see :func:`posecap.size_estimate.estimate`.
    """

    rows: int
    parts: int
    shards: int
    duplicates: int
    rows_by_split: Mapping[str, int]
    parts_by_split: Mapping[str, int]
    rows_by_license: Mapping[str, int]
    rows_by_scheme: Mapping[str, int]
    rows_without_text: int
    rows_without_span: int
    span_seconds: float
    estimated_bytes: int


def summarise(
    plan: Plan, *, store_video: Literal["none", "clip"] = "none", open_seconds: float = ASSUMED_SECONDS
) -> Summary:
    """Count a plan's rows in bounded memory.

    Args:
        store_video: as in the manifest, for the estimate and the number of shards.
        open_seconds: length of the clips that are assumed for each row that lacks an end of its span, or both.
    """
    rows = duplicates = without_text = without_span = 0
    span_seconds = clip_seconds = 0.0
    splits, licenses, schemes = Counter[str](), Counter[str](), Counter[str]()
    columns = ["uri", "start", "end", "label", "captions", "split", "license", "duplicate_of"]
    with pyarrow.parquet.ParquetFile(plan.path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            uri, start, end, label, captions, split, license_, duplicate_of = map(batch.column, columns)
            span, fresh = pc.subtract(end, start), pc.is_null(duplicate_of)
            textless = pc.equal(pc.fill_null(pc.list_value_length(captions), 0), 0)
            rows += batch.num_rows
            duplicates += batch.num_rows - fresh.true_count
            without_text += pc.and_(textless, pc.is_null(label)).true_count
            without_span += pc.and_(pc.is_null(start), pc.is_null(end)).true_count
            span_seconds += pc.sum(span).as_py() or 0.0
            clip_seconds += pc.sum(pc.fill_null(span, open_seconds).filter(fresh)).as_py() or 0.0
            _count_words(split, splits, NOT_STATED)
            _count_words(license_, licenses, NOT_STATED)
            scheme = pc.struct_field(pc.extract_regex(uri, f"(?P<scheme>{SCHEME})"), "scheme")
            _count_words(pc.utf8_rtrim(scheme, ":"), schemes, LOCAL)
    parts = Counter(part.name.split for part in plan.parts())
    return Summary(
        rows=rows,
        parts=parts.total(),
        shards=parts.total() * (2 if store_video == "clip" else 1),
        duplicates=duplicates,
        rows_by_split=dict(sorted(splits.items())),
        parts_by_split=dict(sorted(parts.items())),
        rows_by_license=largest_first(licenses),
        rows_by_scheme=largest_first(schemes),
        rows_without_text=without_text,
        rows_without_span=without_span,
        span_seconds=span_seconds,
        estimated_bytes=estimate(clips=rows - duplicates, seconds=clip_seconds, store_video=store_video),
    )


def show(summary: Summary, console: Console) -> None:
    """Print a summary as small tables."""
    facts = Table("plan", "", title_justify="left")
    facts.columns[1].justify = "right"
    facts.add_row("rows", f"{summary.rows:,}")
    facts.add_row("  repeats of an earlier row, to be rejected", f"{summary.duplicates:,}")
    facts.add_row("  without a span, to be cut by shots", f"{summary.rows_without_span:,}")
    facts.add_row("  without label and captions", f"{summary.rows_without_text:,}")
    facts.add_row("seconds in the spans that have both ends", f"{summary.span_seconds:,.1f}")
    facts.add_row("parts", f"{summary.parts:,}")
    facts.add_row("shards", f"{summary.shards:,}")
    facts.add_row("size of the dataset, roughly", _size(summary.estimated_bytes))
    console.print(facts)
    splits = Table("split", "rows", "parts")
    for name, rows in summary.rows_by_split.items():
        splits.add_row(name, f"{rows:,}", f"{summary.parts_by_split[name]:,}")
    console.print(splits)
    for title, counts in (("license", summary.rows_by_license), ("video is", summary.rows_by_scheme)):
        table = Table(title, "rows")
        for name, rows in list(counts.items())[:_SHOWN_KINDS]:
            table.add_row(escape(name), f"{rows:,}")
        if len(counts) > _SHOWN_KINDS:
            more = sum(list(counts.values())[_SHOWN_KINDS:])
            table.add_row(f"… {len(counts) - _SHOWN_KINDS:,} more", f"{more:,}")
        console.print(table)


def _count_words(words: pa.Array, counter: Counter[str], missing: str) -> None:
    """Count each word, ``missing`` for null; once the counter has ``MOST_KINDS``, new ones count as ``OTHERS``."""
    for entry in pc.value_counts(pc.fill_null(words, missing)).to_pylist():
        word = entry["values"] if entry["values"] in counter or len(counter) < MOST_KINDS else OTHERS
        counter[word] += entry["counts"]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
