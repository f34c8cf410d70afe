"""Modules by the names that they had in 0.1.0 are those of today."""

import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

import posecap.legacy
import tmor_train.legacy

MOVED = {**posecap.legacy.MODULES, **tmor_train.legacy.MODULES}


def has_package(module: str) -> bool:
    """Whether the package of a module is still there; without it Python does not ask for the module."""
    try:
        found = find_spec(module.rpartition(".")[0])
    except ModuleNotFoundError:
        return False
    return found is not None and found.submodule_search_locations is not None  # it may be a mere module now


@pytest.mark.parametrize("old", MOVED)
def test_a_module_is_found_where_it_is_now(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    assert find_spec(MOVED[old]) is not None
    if has_package(old):
        with pytest.warns(FutureWarning, match=rf"^{old} is {MOVED[old]} now: import that$"):
            assert find_spec(old) is not None


def test_it_is_the_same_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tmor_train.tables.jobs", raising=False)
    with pytest.warns(FutureWarning, match="import that"):
        was = import_module("tmor_train.tables.jobs")
    now = import_module("tmor_train.tables.run")
    assert was is now
    assert (now.__name__, now.__spec__ and now.__spec__.name) == ("tmor_train.tables.run", "tmor_train.tables.run")


def test_a_name_that_no_module_ever_had_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'tmor_train\.losses\.nothing'"):
        import_module("tmor_train.losses.nothing")
