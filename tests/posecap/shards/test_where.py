"""Conditions on the index: what they mean, and what is said about wrong ones."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest

from posecap.shards import INDEX_SCHEMA, Where, WhereError

ROWS: list[dict[str, Any]] = [
    {"label": "squat", "coverage": 0.9, "jitter": 0.01, "M": 1, "end_seconds": 2.0, "caption_origins": ["row"]},
    {"label": "push-up", "coverage": 0.7, "jitter": None, "M": 2, "end_seconds": 5.0, "caption_origins": []},
    {"label": None, "coverage": 0.8, "jitter": 0.03, "M": 1, "end_seconds": 9.0, "caption_origins": ["label", "row"]},
    {"label": "squats", "coverage": 0.1, "jitter": 0.02, "M": 3, "end_seconds": 1.0, "caption_origins": ["narrow"]},
]
TABLE = pa.table(
    {
        name: pa.array([row.get(name, 1.0) for row in ROWS], INDEX_SCHEMA.field(name).type)
        for name in (*ROWS[0], "start_seconds")
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('coverage >= 0.8 and jitter < 0.02 and people == 1 and label in ["squat", "push-up"]', [0]),
        ("0.5 < coverage <= .8", [1, 2]),
        ("people in (2, 3)", [1, 3]),
        ("M not in [2, 3]", [0, 2]),
        ("seconds > 3 or label == 'squat'", [0, 1, 2]),
        ("seconds > 3 and (label == 'squat' or coverage > 0.75)", [2]),
        ("-coverage + 2 * people / 4 < 0", [0, 2]),
        ("'squat' in label", [0, 3]),
        ("'squat' not in label", [1]),  # of a clip without label it is not known
        ("'row' in caption_origins", [0, 2]),
        ("'row' not in caption_origins", [1, 3]),
        ("label != 'squat'", [1, 2, 3]),
        ("label in ['squat', None]", [0, 2]),
        ("label not in ['squat']", [1, 2, 3]),
        ("label == None", [2]),
        ("label is not None", [0, 1, 3]),
        ("jitter < 1", [0, 2, 3]),
        ("not jitter < 1", []),
        ("not (jitter < 1 and coverage > 0.75)", [1, 3]),  # false and unknown is false, so its negation holds
        ("jitter >= 0 or coverage == 0.7", [0, 1, 2, 3]),
        ("coverage / (people - 1) > 100", [0, 2]),
        ("  label ==\n'squat'  ", [0]),
    ],
)
def test_rows_for_which_it_holds(text: str, rows: list[int]) -> None:
    where = Where(text)
    mask = where.mask(TABLE.select(where.columns))
    assert [row for row, holds in enumerate(mask.to_pylist()) if holds] == rows
    assert mask.null_count == 0
    for row, values in enumerate(TABLE.to_pylist()):
        assert (where.failing(values) is None) == (row in rows)


NAN = pa.table({"coverage": [float("nan"), 0.5, None], "M": [1, 1, 2], "jitter": [0.0, 0.0, 1.0]})


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("coverage < 1", [1]),
        ("not coverage < 1", []),
        ("coverage != 0.5", [0, 2]),
        ("coverage == None", [0, 2]),
        ("coverage == coverage", [0, 1, 2]),
        ("coverage not in [0.5]", [0, 2]),
        ("-coverage < 0 or coverage + 1 > 0", [1]),
        ("jitter / (people - 1) > 0", [2]),  # 0 / 0 is no number
        ("not jitter / (people - 1) > 0", []),
        ("people / (people - 1) > 1e308", [0, 1]),  # 1 / 0 is infinite
        ("people < 1e999 and people > -1e999", [0, 1, 2]),
        ("people in [1, 1.0, 1e0, None]", [0, 1]),
        ("people not in []", [0, 1, 2]),
        ("people == 1.0000000000000002", []),
    ],
)
def test_numbers_that_are_none_are_no_values(text: str, rows: list[int]) -> None:
    where = Where(text)
    assert [row for row, holds in enumerate(where.mask(NAN.select(where.columns)).to_pylist()) if holds] == rows
    assert [where.failing(values) is None for values in NAN.to_pylist()] == [row in rows for row in range(3)]


@pytest.mark.parametrize("label", ["", "it's", 'a "b"', "é" * 3, "e\u0301", "\U0001f3cb", "a\\b", "%", ".*", "\u202e"])
def test_texts_are_compared_letter_by_letter(label: str) -> None:
    table = pa.table({"label": [label, label + "x", None]})
    assert Where(f"label == {label!r}").mask(table).to_pylist() == [True, False, False]
    assert Where(f"{label!r} in label").mask(table).to_pylist() == [True, True, False]
    assert Where(f"label in [{label!r}]").mask(table).to_pylist() == [True, False, False]


def test_of_a_table_without_rows_none_hold() -> None:
    where = Where("'row' in caption_origins and coverage / people > 1 and label in ['a'] or jitter == None")
    assert where.mask(TABLE.slice(0, 0).select(where.columns)).to_pylist() == []


def test_columns_are_those_it_looks_at() -> None:
    assert Where("seconds > 1 and people == 1 and 'a' in uri").columns == ["M", "end_seconds", "start_seconds", "uri"]


def test_why_it_does_not_hold_names_the_first_part_and_its_values() -> None:
    where = Where("people == 1 and coverage >= 0.8 and label in ['squat']")
    assert where.failing({"M": 1, "coverage": 0.612345678, "label": None}) == (
        "coverage is 0.612346; needs coverage >= 0.8"
    )
    assert where.failing({"M": 1, "coverage": 0.9, "label": None}) == "label is None; needs label in ['squat']"
    assert where.failing({"label": None}, lacking="pass over") == "label is None; needs label in ['squat']"
    assert where.failing({"label": "squat"}, lacking="pass over") is None
    with pytest.raises(KeyError):
        where.failing({"label": "squat"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("coverge >= 0.8", "where: character 1, coverge: there is no column 'coverge'; did you mean coverage?"),
        ("M == 1 and label == squat", "character 21, squat: there is no column 'squat'; a text stands in quotes."),
        ("'é' == label and nothing > 1", "character 18, nothing: there is no column"),
        ("label = 'squat'", "character 7: invalid syntax"),
        ("coverage", "character 1, coverage: this number is neither true nor false; compare it"),
        ("label == 3", "text cannot be compared with number"),
        ("label < None", "text cannot be compared with None"),
        ("captions == 'x'", "several texts are compared by `in` only"),
        ("label in 'squat'", "`in` stands between"),
        ("label in ['squat', 3]", "a list holds values of one kind"),
        ("label in [uri]", "a list holds values of one kind"),
        ("label + 'x' == uri", "this text cannot be computed with"),
        ("1 < 2", "this compares no column"),
        ("M is 1", "`is` and `is not` stand before None only"),
        ("M == True", "values are numbers, texts in quotes and None"),
        ("[M]", "a list stands behind `in` only"),
        ("", "an empty condition"),
        ("label == '\\ud800'", "half of a character"),
        ("M > 1" + "0" * 400, "a number that is too large"),
    ],
)
def test_a_wrong_one_is_named_with_the_place(text: str, said: str) -> None:
    with pytest.raises(WhereError) as raised:
        Where(text)
    assert said in str(raised.value)
    assert str(raised.value).startswith("where: ")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') == 0",
        "(lambda: M)() > 1",
        "M.__class__ == 1",
        "[x for x in uri] == 1",
        "f'{M}' == uri",
        "M ** 1000000 > 1",
        "'a' * 1000000000 == uri",
        "(M := 1) > 0",
        "M if M > 1 else M",
        "M\0 > 1",
        "(" * 5000 + "M > 1" + ")" * 5000,
        "not " * 5000 + "M > 1",
        "-" * 60000 + "M > 1",
        "M" + " + 1" * 10000 + " > 1",
        " or ".join(["M > 1"] * 9000),
        "M > 1" + " " * 70000,
        "label == 'unclosed",
        "M" + ".a" * 30000 + " > 1",
        "M" + "()" * 30000 + " > 1",
        "M" + "[0]" * 20000 + " > 1",
        "M" + " < M" * 15000,
        "[" * 5000 + "]" * 5000 + " == M",
        "'a' 'b' in " * 4000 + "label",
        "M > 1 and " * 6000 + "M > 1",
        "label == b'squat'",
        "M == 1j",
        "M > 1; M > 2",
        "M > 1 # and more\nM == )",
        "await M > 1",
        "label == 'a'.join(uri)",
        "M > *uri",
        "\ud800 > 1",
        "M > 1\u2028and __import__('os')",
    ],
)
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(WhereError):
        Where(text)


def test_each_part_of_a_long_condition_is_quoted_by_its_own_text() -> None:
    where = Where(f"label != '{'é' * 3000}' and " + " and ".join(["M > 1"] * 60) + " and (label == '#1')")
    assert where.failing({"label": "x", "M": 1}) == "M is 1; needs M > 1"
    assert where.failing({"label": "x", "M": 2}) == "label is 'x'; needs label == '#1'"


def test_a_long_list_of_labels_is_fine() -> None:
    labels = [f"action number {number}" for number in range(2500)]
    assert Where(f"label in {labels}").failing({"label": "action number 7"}) is None


def test_it_can_be_pickled() -> None:
    where = pickle.loads(pickle.dumps(Where("M == 1")))
    assert (where, where.failing({"M": 1})) == (Where("M == 1"), None)
