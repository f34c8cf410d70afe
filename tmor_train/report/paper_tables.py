"""Section: tables of the paper with what was measured here."""

from __future__ import annotations

from typing import Any

from tmor_train.report.gathered import Gathered
from tmor_train.report.html import Section, bullets, escaped, paragraph, table, wide_row
from tmor_train.report.html import row as line


def section(gathered: Gathered) -> Section | None:
    """Each table, lines measured here set apart from the paper's."""
    if not gathered.tables:
        return None
    intro = paragraph(
        "In percent. The paper's figures (arXiv 2606.21607), and in colour those that were measured here."
    )
    parts = []
    for found in gathered.tables:
        try:
            parts.append(_table(found))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            parts.append(paragraph(f"{found.get('name')} is damaged: {type(error).__name__} {error}"))
    return Section("tables", "Against the paper", intro + "".join(parts))


def _table(found: dict[str, Any]) -> str:
    more = list(dict.fromkeys(name for row in found["rows"] for name in row["more"]))
    words = 1 + len(more)
    rows, part = [], None
    for row in found["rows"]:
        if row["section"] != part:
            part = row["section"]
            rows.append(wide_row(part, (), columns=words + len(row["paper"]), kind="part"))
        paper = ["–" if share is None else f"{share:.1f}" for share in row["paper"]]
        rows.append(line([row["method"], *(row["more"].get(name, "") for name in more), *paper], words=words))
        for here in row["here"]:
            name = found["weights"][here["key"]]["name"]
            figures = ["" if one is None else one["words"] for one in here["figures"]]
            said = f"here: {here['words'] or here['recipe']}, {name}"
            rows.append(wide_row(said, figures, columns=words, kind="here"))
    heads = ["Method", *more, *(column["title"] for column in found["columns"])]
    body = f"<h3>{escaped(found['title'])}</h3>\n{table(heads, rows, words=words)}"
    return body + bullets(found["notes"]) + bullets(f"not measured: {reason}" for reason in found["not_measured"])


__all__ = ["section"]
