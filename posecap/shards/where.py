"""Conditions on clips, written as text and evaluated on the index: ``coverage >= 0.8 and people == 1``.

The language is a small part of Python's expressions::

    coverage >= 0.8 and jitter < 0.02 and people == 1 and label in ["squat", "push-up"]
    0.5 <= seconds < 10 and not (license == None or "youtube" in uri)
    "row" in caption_origins and width / height > 1

A name is a column of the index (:data:`posecap.shards.INDEX_SCHEMA`), or one of :data:`MORE_NAMES`. Numbers, texts in
quotes, ``None`` and lists of these after ``in`` are values. ``+ - * /`` compute, ``== != < <= > >= in is`` and their
negations compare, also in chains, and ``and or not`` combine. ``"x" in column`` looks for a part of a text, and for a
whole one in columns that hold several, as ``captions``. Nothing else is understood; text is never executed as Python.

Where a column has no value, ``==``, ``!=`` and ``in [...]`` take ``None`` as a value like others, so that
``label != "squat"`` holds for clips without a label. Every other comparison with it is unknown: neither it nor its
``not`` holds. A number that is none (NaN), in a column or as 0 / 0, counts as no value. Other numbers that are divided
by 0 are infinite.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, reduce
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posecap.shards.index import INDEX_SCHEMA

Kind = Literal["number", "text", "texts", "condition", "None"]

MORE_NAMES: Final = {"people": "M", "frames": "T", "joints": "J", "seconds": "end_seconds - start_seconds"}
"""Names that conditions know besides the columns, and what they stand for."""
MOST_CHARACTERS: Final = 1 << 16
"""Of a condition: room for a list of some thousand labels. This and the two below bound what a condition from anybody
may cost; they are our choice."""
_MOST_NESTED: Final = 40
_MOST_PARTS: Final = 2000
"""Comparisons, computations and the like in one condition; values of lists do not count."""
_QUOTED_CHARACTERS: Final = 60

_ARITHMETIC: Final = {ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: pc.divide}
_ORDERS: Final = {ast.Lt: pc.less, ast.LtE: pc.less_equal, ast.Gt: pc.greater, ast.GtE: pc.greater_equal}
_KNOWN: Final[dict[str, Kind]] = {
    field.name: "texts" if pa.types.is_list(field.type) else "text" if pa.types.is_string(field.type) else "number"
    for field in INDEX_SCHEMA
}
_EXAMPLE: Final = 'coverage >= 0.8 and label in ["squat", "push-up"]'


class WhereError(ValueError):
    """A condition cannot be understood; the message names the place in it and the remedy."""


Table = Mapping[str, Any]
"""Arrow arrays by the name of their column."""


@dataclass(frozen=True)
class _Part:
    """A piece of a condition: what it gives for a table, as an Arrow array, or as a scalar where it names no column."""

    kind: Kind
    of: Callable[[Table], Any]
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Where:
    """A condition on clips; the module's docstring says how it is written.

    Raises:
        WhereError: it is not written so, names a column that there is not, or compares what cannot be compared.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self._clauses

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text,)  # what it was compiled to cannot be pickled

    @classmethod
    def of(cls, condition: str | Where | None) -> Where | None:
        """A condition from its text."""
        return cls(condition) if isinstance(condition, str) else condition

    @property
    def columns(self) -> list[str]:
        """Columns of the index that it looks at, sorted."""
        return sorted(frozenset().union(*(part.columns for _, part in self._clauses)))

    def mask(self, table: Any) -> Any:
        """Which rows of an index it holds for, as an Arrow array of truth values without nulls.

        Args:
            table: a :class:`pyarrow.Table` that has :attr:`columns`, or Arrow arrays by name.
        """
        return pc.fill_null(reduce(pc.and_kleene, (part.of(_arrays(table)) for _, part in self._clauses)), False)

    def failing(self, row: Mapping[str, Any], *, lacking: Literal["refuse", "pass over"] = "refuse") -> str | None:
        """Why it does not hold for one clip, in a sentence; None where it holds.

        Args:
            row: values of :attr:`columns`.
            lacking: what is done about a part of the condition, as ``and`` combines them, with a column that is not in
                ``row``: KeyError, or it counts as true.
        """
        clauses = [one for one in self._clauses if lacking == "refuse" or one[1].columns <= row.keys()]
        names = sorted(frozenset().union(*(part.columns for _, part in clauses)))
        table = {name: pa.array([row[name]], INDEX_SCHEMA.field(name).type) for name in names}
        for clause, part in clauses:
            if part.of(table)[0].as_py() is not True:
                values = ", ".join(f"{name} is {_shown(row[name])}" for name in sorted(part.columns))
                return f"{values}; needs {_cut(clause)}"
        return None

    @cached_property
    def _clauses(self) -> list[tuple[str, _Part]]:
        """The conditions that ``and`` combines at the top, each with its text."""
        return _Reader(self.text).clauses()


class _Reader:
    """Turns the text of a condition into parts. Its methods raise WhereError."""

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARACTERS:
            raise WhereError(f"where: {len(text):,} characters are more than the {MOST_CHARACTERS:,} that are read")
        self._text = " ".join(text.splitlines()).strip()
        self._bytes = self._text.encode("utf-8", "surrogatepass")  # in which the places of a tree are counted
        self._parts = 0

    def clauses(self) -> list[tuple[str, _Part]]:
        """What ``and`` combines at the top, each with its text."""
        if not self._text:
            raise WhereError(f"where: an empty condition; write one such as {_EXAMPLE}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unknown escapes in quotes
                tree = ast.parse(self._text, mode="eval").body
        except SyntaxError as error:
            place = f"character {error.offset}: " if error.offset else ""
            raise WhereError(f"where: {place}{error.msg}, in {_cut(self._text)}; write e.g. {_EXAMPLE}") from None
        except (MemoryError, RecursionError):
            raise WhereError("where: it is nested too deeply; write it with fewer brackets and operators") from None
        except ValueError as error:
            raise WhereError(f"where: {error}; write e.g. {_EXAMPLE}") from None
        if b"#" in self._bytes[tree.end_col_offset :]:
            raise WhereError(f"where: what follows # would be left out, in {_cut(self._text)}; write no comments")
        nodes = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        return [(self._segment(node), self._truth(node, 1)) for node in nodes]

    def _part(self, node: ast.expr, depth: int) -> _Part:
        """A part of any kind."""
        self._parts += 1
        if depth > _MOST_NESTED or self._parts > _MOST_PARTS:
            raise self._error(node, f"it has more than {_MOST_PARTS:,} parts, or {_MOST_NESTED} within each other")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.BoolOp():
                combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
                operands = [self._truth(value, depth + 1) for value in node.values]
                return _made("condition", lambda *values: reduce(combine, values), *operands)
            case ast.UnaryOp(op=ast.Not()):
                return _made("condition", pc.invert, self._truth(node.operand, depth + 1))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                sign = pc.negate if isinstance(node.op, ast.USub) else lambda value: value
                return _made("number", sign, self._number(node.operand, depth + 1))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                sides = (self._number(side, depth + 1) for side in (node.left, node.right))
                compute = _ARITHMETIC[type(node.op)]
                return _made("number", lambda one, other: _known(compute(one, other)), *sides)
            case ast.List() | ast.Tuple():
                raise self._error(node, "a list stands behind `in` only, as in label in ['squat', 'push-up']")
        raise self._error(node, f"this is not understood; write conditions such as {_EXAMPLE}")

    def _truth(self, node: ast.expr, depth: int) -> _Part:
        """A part that is true or false; ``depth`` counts the parts around it."""
        part = self._part(node, depth)
        if part.kind != "condition":
            raise self._error(node, f"this {part.kind} is neither true nor false; compare it, as in coverage >= 0.8")
        return part

    def _number(self, node: ast.expr, depth: int) -> _Part:
        """A part that is a number."""
        part = self._part(node, depth)
        if part.kind != "number":
            raise self._error(node, f"this {part.kind} cannot be computed with; only numbers can")
        return part

    def _constant(self, node: ast.Constant) -> _Part:
        """A number, a text or None."""
        value = node.value
        if value is None:
            return _Part("None", lambda table: pa.scalar(None))
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self._error(node, "half of a character that is no text; leave the escape out") from None
            return _Part("text", lambda table: pa.scalar(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                raise self._error(node, "a number that is too large") from None
            return _Part("number", lambda table: pa.scalar(number))
        raise self._error(node, "values are numbers, texts in quotes and None")

    def _name(self, node: ast.Name) -> _Part:
        """A column, or what another name stands for."""
        name = node.id
        if name == "seconds":
            return _made("number", pc.subtract, _column("end_seconds"), _column("start_seconds"))
        name = MORE_NAMES.get(name, name)
        if name not in _KNOWN:
            names = [*_KNOWN, *MORE_NAMES]
            close = get_close_matches(name.lower(), names, n=1) or [n for n in names if name.lower() in n.lower()][:3]
            meant = f"did you mean {' or '.join(close)}?" if close else "a text stands in quotes."
            raise self._error(node, f"there is no column {name!r}; {meant} docs/format.md lists the index's columns")
        return _column(name)

    def _comparison(self, node: ast.Compare, depth: int) -> _Part:
        """One comparison, or a chain of them, each of which must hold."""
        lefts = [node.left, *node.comparators[:-1]]
        links = [
            self._link(node, left, operator, right, depth + 1)
            for left, operator, right in zip(lefts, node.ops, node.comparators, strict=True)
        ]
        return _made("condition", lambda *values: reduce(pc.and_kleene, values), *links)

    def _link(self, node: ast.expr, left: ast.expr, operator: ast.cmpop, right: ast.expr, depth: int) -> _Part:
        """One comparison of two values; ``node`` is the chain that it is of, for messages."""
        one = self._part(left, depth)
        if isinstance(operator, ast.In | ast.NotIn):
            found = self._membership(node, one, right, depth)
            return _made("condition", pc.invert, found) if isinstance(operator, ast.NotIn) else found
        other = self._part(right, depth)
        if not one.columns | other.columns:
            raise self._error(node, "this compares no column; name one on either side")
        if isinstance(operator, ast.Is | ast.IsNot) and "None" not in (one.kind, other.kind):
            raise self._error(node, "`is` and `is not` stand before None only; write == or !=")
        if isinstance(operator, ast.Is | ast.IsNot | ast.Eq | ast.NotEq):
            self._check_equal_kinds(node, one, other, also=("None",))
            same = _made("condition", _same, one, other)
            return same if isinstance(operator, ast.Is | ast.Eq) else _made("condition", pc.invert, same)
        self._check_equal_kinds(node, one, other)
        return _made("condition", _ORDERS[type(operator)], one, other)

    def _check_equal_kinds(self, node: ast.expr, one: _Part, other: _Part, also: Sequence[Kind] = ()) -> None:
        """Check that both are numbers or both texts; one of them may be of a kind in ``also``."""
        kinds = {one.kind, other.kind}
        if "texts" in kinds:
            raise self._error(node, "several texts are compared by `in` only, as in 'row' in caption_origins")
        if len(kinds - {*also}) != 1 or not kinds <= {"number", "text", *also}:
            remedy = "; texts stand in quotes, numbers do not"
            raise self._error(node, f"{one.kind} cannot be compared with {other.kind}{remedy}")

    def _membership(self, node: ast.expr, one: _Part, right: ast.expr, depth: int) -> _Part:
        """``one in right``: a column in a list of values, or a text in a column."""
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            other = self._part(right, depth)
            if one.kind != "text" or one.columns or other.kind not in ("text", "texts") or not other.columns:
                raise self._error(node, "`in` stands between a value and a list, or a text in quotes and a column")
            word = one.of({}).as_py()
            find = _holds_part if other.kind == "text" else _holds_whole
            return _made("condition", lambda values: find(values, word), other)
        values = [self._constant(value) if isinstance(value, ast.Constant) else None for value in right.elts]
        kinds = {"None" if value is None else value.kind for value in values} - {"None"}
        if None in values or not one.columns or not kinds <= {one.kind} or one.kind not in ("number", "text"):
            raise self._error(
                node, f"a list holds values of one kind, here each a {one.kind}, and a column stands before `in`"
            )
        plain = pa.array(
            [value.of({}).as_py() for value in values if value is not None],
            pa.float64() if one.kind == "number" else pa.string(),
        )
        return _made("condition", lambda found: pc.is_in(found, value_set=plain), one)

    def _segment(self, node: ast.expr) -> str:
        """The text of a part."""
        return self._bytes[node.col_offset : node.end_col_offset].decode("utf-8", "surrogatepass")

    def _error(self, node: ast.expr, problem: str) -> WhereError:
        """An error that names where the part begins, its text, and the problem."""
        before = self._bytes[: node.col_offset].decode(errors="replace")
        return WhereError(f"where: character {len(before) + 1}, {_cut(self._segment(node))}: {problem}")


def _made(kind: Kind, function: Callable[..., Any], *operands: _Part) -> _Part:
    """A part that applies a function of Arrow to what its operands give."""
    columns = frozenset().union(*(operand.columns for operand in operands))
    return _Part(kind, lambda table: function(*(operand.of(table) for operand in operands)), columns)


def _column(name: str) -> _Part:
    """A column of the index; numbers as float64."""
    kind = _KNOWN[name]
    if kind == "number":
        return _Part(kind, lambda table: _known(pc.cast(table[name], pa.float64())), frozenset({name}))
    return _Part(kind, lambda table: table[name], frozenset({name}))


def _known(numbers: Any) -> Any:
    """Numbers, with no value where they are NaN."""
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)


def _same(one: Any, other: Any) -> Any:
    """Where two arrays, or one and a scalar, are equal, None being equal to itself."""
    neither = pc.and_(pc.is_null(one), pc.is_null(other))
    if pa.types.is_null(one.type) or pa.types.is_null(other.type):
        return neither
    return pc.or_(neither, pc.fill_null(pc.equal(one, other), False))


def _holds_part(texts: Any, word: str) -> Any:
    """Which texts contain a word as a part of themselves."""
    return pc.match_substring(texts, word)


def _holds_whole(lists: Any, word: str) -> Any:
    """Which lists of texts hold a word; an empty list does not."""
    mask = np.zeros(len(lists), np.bool_)
    parents = pc.list_parent_indices(lists)
    mask[parents.filter(pc.equal(pc.list_flatten(lists), word)).to_numpy()] = True
    return pa.array(mask)


def _arrays(table: Any) -> Table:
    """The columns of a table, each as one array."""
    if not isinstance(table, pa.Table):
        return table  # type: ignore[no-any-return]
    return {name: _combined(table[name]) for name in table.column_names}


def _combined(column: Any) -> Any:
    """A column of several chunks as one array."""
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def _shown(value: Any) -> str:
    """A value as messages quote it: six digits of a number, and not too many characters."""
    return f"{value:.6g}" if isinstance(value, float) else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[: _QUOTED_CHARACTERS - 1]}…"
