"""The page: all sections that have something to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tmor_train.outputs import Existing, whole
from tmor_train.report import confusion, curves, embedding_map, overview, paper_tables, per_class, timeline
from tmor_train.report.gathered import Gathered, gather
from tmor_train.report.html import Section, page
from tmor_train.results import BadResult

SECTIONS: tuple[Callable[[Gathered], Section | None], ...] = (
    paper_tables.section,
    overview.section,
    per_class.section,
    confusion.section,
    timeline.section,
    embedding_map.section,
    curves.section,
)
"""In the order of the page; each gives None where there is nothing of its kind."""


def report(folder: Path, output: Path, *, embeddings: Sequence[Path] = (), existing: Existing = "replace") -> int:
    """Write the page of all that lies below ``folder``; returns how many results it has.

    Args:
        embeddings: files of ``tmor_train embed`` that lie elsewhere.

    Raises:
        BadResult: there is nothing to report.
        OutputExists: there is such a file, and ``existing`` is ``refuse``.
    """
    gathered = gather(folder, embeddings=embeddings)
    sections = [made for section in SECTIONS if (made := section(gathered)) is not None]
    if not sections:
        raise BadResult(f"{folder} holds no result, table, run or embeddings to report")
    counts = (
        f"Results: {len(gathered.results)}. Tables of the paper: {len(gathered.tables)}. "
        f"Journals: {len(gathered.runs)}."
    )
    text = page(f"T-MOR: results of {folder.resolve().name}", [counts], sections)
    with whole(output, existing=existing) as part:
        part.write_text(text, encoding="utf-8")
    return len(gathered.results)


__all__ = ["SECTIONS", "report"]
