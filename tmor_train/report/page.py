"""Writes the report: one HTML page of tables, charts and all other sections that have something to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from posecap.files import Existing, atomic_path
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.report import charts
from tmor_train.report.charts import Block, Grid, Line, Section, printable
from tmor_train.report.collect import Collected, StoredResult, best_first, collect
from tmor_train.results import ResultError


def report(folder: Path, output: Path, *, embeddings: Sequence[Path] = (), existing: Existing = "replace") -> int:
    """Write a page of everything below ``folder`` to the file ``output``; returns the number of results in it.

    Args:
        embeddings: files of ``tmor_train embed`` that lie elsewhere.

    Raises:
        ResultError: there is no such folder, or nothing in it to report.
        OutputExistsError: ``output`` exists, and ``existing`` is ``refuse``.
    """
    collected = collect(folder, embeddings=embeddings)
    sections = [Section(name, title, blocks) for name, title, of in SECTIONS if (blocks := list(of(collected)))]
    if not sections:
        raise ResultError(f"{folder} holds no result, table, run or embeddings to report")
    counts = (
        f"Results: {len(collected.results)}. Tables of the paper: {len(collected.tables)}. "
        f"Training runs: {len(collected.runs)}."
    )
    text = page(f"T-MOR: results of {folder.resolve().name}", counts, sections)
    with atomic_path(output, existing=existing) as part:
        part.write_text(text, encoding="utf-8")
    return len(collected.results)


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The HTML document, which loads no other file; ``about`` is a line below the title."""
    environment = Environment(
        loader=PackageLoader("tmor_train.report", "."),
        autoescape=True,  # select_autoescape() would go by the name's ending
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja").render(title=title, about=about, sections=sections)


def paper_tables(collected: Collected) -> Iterator[Block]:
    """Each of the paper's tables, with rows measured here set apart from the paper's."""
    if collected.tables:
        yield Block(text="In percent. The paper's figures (arXiv 2606.21607), and in colour those measured here.")
    for table in collected.tables:
        try:
            yield _paper_table(table)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield Block(text=f"{table.get('name')} is damaged: {type(error).__name__} {error}")


def _paper_table(table: dict[str, Any]) -> Block:
    """A measured table, the content of its ``table.json``; what it lacks is an error of any kind."""
    more = list(dict.fromkeys(name for row in table["rows"] for name in row["more"]))
    text_columns = 1 + len(more)
    lines = []
    for heading, rows in groupby(table["rows"], lambda row: row["section"]):
        lines.append(Line([heading], span=text_columns + len(table["columns"]), kind="section"))
        for row in rows:
            paper = ["–" if share is None else f"{share:.1f}" for share in row["paper"]]
            lines.append(Line([row["method"], *(row["more"].get(name, "") for name in more), *paper]))
            for here in row["here"]:
                name = table["weights"][here["key"]]["name"]
                cells = ["" if one is None else one["words"] for one in here["figures"]]
                about = f"here: {here['words'] or here['recipe']}, {name}"
                lines.append(Line([about, *cells], span=text_columns, kind="measured"))
    return Block(
        heading=table["title"],
        grid=Grid(["Method", *more, *(column["title"] for column in table["columns"])], lines, text_columns),
        notes=list(table["notes"]),
        more_notes=[f"not measured: {reason}" for reason in table["not_measured"]],
    )


def overview(collected: Collected) -> Iterator[Block]:
    """A table for each benchmark and protocol, its metrics in percent and the primary one first."""
    if collected.problems:
        yield Block(notes=[f"not read: {problem}" for problem in collected.problems])
    for (benchmark, protocol), group in groupby(sorted(collected.results, key=_task), _task):
        results = best_first(group)
        about = BENCHMARKS[benchmark].about if benchmark in BENCHMARKS else ""
        modes: dict[str, dict[str, None]] = {}
        for one in results:
            for note in one.result.notes:
                modes.setdefault(note, {})[one.result.mode] = None
        notes = [f"{', '.join(of)}: {note}" for note, of in modes.items()]
        yield Block(heading=f"{benchmark} {protocol}", text=about, grid=_results_grid(results), notes=notes)


def _task(one: StoredResult) -> tuple[str, str]:
    return one.result.benchmark, one.result.protocol


def _results_grid(results: list[StoredResult]) -> Grid:
    """Results of one benchmark and protocol, a line each."""
    first = dict.fromkeys(one.result.primary_metric for one in results)
    names = list(dict.fromkeys([*first, *(name for one in results for name in one.result.metrics)]))
    by_clips = any(one.result.intervals for one in results)
    lines = []
    for one in results:
        result = one.result
        metrics = [f"{100 * result.metrics[name]:.2f}" if name in result.metrics else "–" for name in names]
        counts = [f"{result.counts[name]:,}" if name in result.counts else "–" for name in ("train", "test")]
        if by_clips:
            ends = result.intervals.get("top1", ())
            metrics.append(" to ".join(f"{100 * end:.1f}" for end in ends) or "–")
        labels = "" if result.labels == 1 else f"{100 * result.labels:g} % of labels"
        lines.append(Line([result.mode, result.checkpoint or "–", labels, one.name, result.seed, *counts, *metrics]))
    heads = ["Mode", "Encoder", "Labels", "Folder", "Seed", "Trained on", "Tested on"]
    heads += [f"{name.replace('_', ' ')} (%)" for name in names]
    return Grid([*heads, *(["top1, 95 % (Wilson)"] if by_clips else [])], lines, text_columns=4)


SECTIONS: tuple[tuple[str, str, Callable[[Collected], Iterator[Block]]], ...] = (
    ("tables", "Against the paper", paper_tables),
    ("results", "Results", overview),
    ("classes", "By class", charts.per_class),
    ("confusion", "Confusion of classes", charts.confusion),
    ("timelines", "Along recordings", charts.timelines),
    ("embeddings", "Embeddings", charts.embeddings),
    ("curves", "Training", charts.training_curves),
)
"""Name, title and blocks of each section, in the order of the page; one without blocks is left out."""
