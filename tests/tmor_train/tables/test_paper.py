"""The paper's figures as they are written down: gains that its prose names follow from them, and shapes fit."""

import pytest

from tmor_train.benchmarks import BENCHMARKS
from tmor_train.recipes import RECIPES
from tmor_train.tables.paper import TABLES, Column, Reproduction, Row, Table


def paper(table: str, method: str, section: str | None = None, **more: str) -> tuple[float | None, ...]:
    """The figures of the only row of such words."""
    (found,) = (
        row
        for heading, rows in TABLES[table].sections
        for row in rows
        if row.method == method and (section is None or heading == section) and more.items() <= row.more.items()
    )
    return found.paper


def gain(one: tuple[float | None, ...], other: tuple[float | None, ...], at: int) -> float:
    first, second = one[at], other[at]
    assert first is not None
    assert second is not None
    return round(first - second, 1)


def test_gains_of_the_prose_follow_from_table_1_and_2() -> None:
    all_three = {"Pre-training": "PoseCap-1M (V+M+T)"}
    linear = paper("table1", "T-MOR", "linear probing", **all_three)
    tuned = paper("table1", "T-MOR", "fine-tuning", **all_three)
    scratch = paper("table1", "UNIK [38]", "linear probing")
    assert gain(linear, scratch, 1) == 32.7
    assert gain(linear, scratch, 4) == 68.0
    assert gain(tuned, paper("table1", "ViA [39]", **{"Pre-training": "Posetics"}), 1) == 1.5
    linear = paper("table2", "T-MOR", "linear probing", **all_three)
    scratch = paper("table2", "UNIK [38]", "linear probing")
    assert (gain(linear, scratch, 0), gain(linear, scratch, 2)) == (15.1, 10.5)
    tuned = paper("table2", "T-MOR", "fine-tuning", **all_three)
    assert gain(tuned, paper("table2", "TGM [27]"), 0) == 11.6
    assert gain(tuned, paper("table2", "SD-TCN [7]", Backbone="AGCN"), 2) == 16.2


def test_table_5_repeats_table_1_and_2() -> None:
    three = {"Pre-training": "PoseCap-1M (V+M+T)"}
    for method, row in (("MM+MV", {"Pre-training": "PoseCap-1M (V+M)"}), ("MM+MV+MT", three)):
        ablation = paper("table5", method, **{"Pre-training": "PoseCap-1M"})
        assert ablation[0] == paper("table1", "T-MOR", "linear probing", **row)[0]
        assert ablation[1] == paper("table2", "T-MOR", "linear probing", **row)[0]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_what_is_measured_is_there(name: str) -> None:
    table = TABLES[name]
    for column in table.columns:
        assert column.benchmark in BENCHMARKS or column.benchmark == "pku_mmd"
        if column.benchmark in BENCHMARKS:
            assert column.protocol in BENCHMARKS[column.benchmark].protocols
    recipes = {one.recipe for row in table.rows for one in row.reproductions}
    assert recipes
    assert {recipe for recipe in recipes if not recipe.startswith("detect_")} <= RECIPES.keys()
    # Every key is a row's, and a key has one line for each column of a section.
    assert {one.key for row in table.rows for one in row.reproductions} == set(table.keys)


def test_a_table_that_does_not_fit_is_refused() -> None:
    column = Column(title="A", benchmark="sbu", protocol="fold1", metric="top1")
    with pytest.raises(ValueError, match="table: X has 2 figures for 1 columns"):
        Table(
            name="table", title="", columns=(column,), sections=(("", (Row(method="X", paper=(1.0, 2.0)),)),), keys={}
        )
    row = Row(method="X", paper=(None,), reproductions=(Reproduction(key="vm", recipe="probe", mode="probe"),))
    with pytest.raises(ValueError, match="measured with 'vm', which is not in keys"):
        Table(name="table", title="", columns=(column,), sections=(("", (row,)),), keys={})
