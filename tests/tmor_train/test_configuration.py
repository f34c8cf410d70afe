"""Configurations survive JSON, take typed changes, and refuse the rest, values out of their range too, with a hint."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from tmor_train.configuration import Checked, ConfigError, as_json, changed, described, from_json, ranged
from tmor_train.data import Sampling
from tmor_train.evaluation.config import StartConfig
from tmor_train.recipes import RECIPES
from tmor_train.training.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Turn:
    degrees: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Crop:
    frames: int = 8
    way: Literal["random", "centre"] = "random"


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    most: int | None = None
    eps: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate is above 0, not {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "x"
    inner: Inner = field(default_factory=Inner)
    steps: tuple[Turn | Crop, ...] = (Crop(), Turn())
    names: tuple[str, ...] = ("a", "b")
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json_and_its_own_words(name: str) -> None:
    config = RECIPES[name]()
    assert config.recipe == name
    assert from_json(type(config), json.loads(json.dumps(as_json(config)))) == config
    # From another recipe of its kind, where there is one.
    other = next((made() for made in reversed(RECIPES.values()) if type(made()) is type(config)), config)
    again = changed(other, [f"{path}={value}" for path, value in described(config)])
    assert again == config


@pytest.mark.parametrize("names", [(), ("a", "b c"), ("pour, then drink",), ("",), ("a", ""), ("[a", "b]"), ("{",)])
def test_words_of_any_kind_are_printed_as_they_are_read(names: tuple[str, ...]) -> None:
    config = Outer(names=names)
    assert changed(Outer(), [f"{path}={value}" for path, value in described(config)]) == config
    assert dict(described(Outer()))["names"] == "a,b"


@dataclass(frozen=True, kw_only=True)
class Choosing:
    way: Turn | Crop | None = None
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low is below high, not {self.low} and {self.high}")


def test_one_of_several_classes_says_which_it_is() -> None:
    chosen = Choosing(way=Crop(frames=3))
    assert as_json(chosen)["way"] == {"kind": "Crop", "frames": 3, "way": "random"}
    assert from_json(Choosing, as_json(chosen)) == chosen
    assert dict(described(chosen))["way"] == '{"kind": "Crop", "frames": 3, "way": "random"}'
    assert changed(Choosing(), ["way=Turn", "way.degrees=3"]) == Choosing(way=Turn(degrees=3.0))


def test_what_fields_say_together_is_checked_at_the_end() -> None:
    assert changed(Choosing(), ["low=5", "high=9"]) == changed(Choosing(), ["high=9", "low=5"])
    with pytest.raises(ConfigError, match="low=5: low is below high, not 5 and 1"):
        changed(Choosing(), ["low=5"])


def test_fields_of_version_0_1_are_read_by_their_names_of_today() -> None:
    known = as_json(RECIPES["stage1"]())
    old = json.loads(json.dumps(known))
    old["optimizer"]["rate"], old["optimizer"]["decay"] = old["optimizer"].pop("lr"), 0.25
    del old["optimizer"]["weight_decay"]
    old["schedule"]["floor"] = 0.125
    del old["schedule"]["min_lr_ratio"]
    found = from_json(PretrainConfig, old)
    assert (found.optimizer.lr, found.optimizer.weight_decay, found.schedule.min_lr_ratio) == (0.1, 0.25, 0.125)
    typed = changed(found, ["optimizer.rate=0.5", "schedule.drops=1,2"])
    assert (typed.optimizer.lr, typed.schedule.milestones) == (0.5, (1, 2))


def test_json_holds_every_field_and_the_kind_of_each_entry() -> None:
    assert as_json(Outer()) == {
        "name": "x",
        "inner": {"rate": 0.1, "most": None, "eps": "auto"},
        "steps": [{"kind": "Crop", "frames": 8, "way": "random"}, {"kind": "Turn", "degrees": 15.0}],
        "names": ["a", "b"],
        "sizes": [],
    }


def test_changes_are_typed() -> None:
    made = changed(
        Outer(),
        [
            "name=none of these",
            "inner.rate=1e-3",
            "inner.most=7",
            "inner.eps=0.5",
            "steps.1.degrees=30",
            "steps.0.way=centre",
            "names=c",
            "sizes=3,4",
        ],
    )
    assert made == Outer(
        name="none of these",
        inner=Inner(rate=0.001, most=7, eps=0.5),
        steps=(Crop(way="centre"), Turn(degrees=30.0)),
        names=("c",),
        sizes=(3, 4),
    )
    assert changed(made, ["inner.most=none", "names=", "sizes=[]", "inner.eps=auto"]).inner == Inner(rate=0.001)
    assert isinstance(changed(made, ["inner.rate=1"]).inner.rate, float)


def test_entries_of_a_list_are_named_or_written_whole() -> None:
    assert changed(Outer(), ["steps=Turn,Crop"]).steps == (Turn(), Crop())
    assert changed(Outer(), ['steps=[{"kind": "Turn", "degrees": 3}]']).steps == (Turn(degrees=3.0),)
    assert changed(Outer(), ["steps.0=Turn"]).steps == (Turn(), Turn())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("inner.rat=1", "did you mean 'inner.rate'"),
        ("rate=1", "did you mean 'inner.rate'"),
        ("inner.zzzzz=1", "inner has rate, most, eps"),
        ("inner.rate=fast", "inner.rate is a number, not 'fast'"),
        ("inner.rate=-1", "rate is above 0, not -1"),
        ("inner.most=1.5", "a whole number or none"),
        ("inner.eps=autp", "did you mean 'auto'"),
        ("steps=Turm", "did you mean 'Turn'"),
        ("steps.5.degrees=1", "steps has no entry '5'; its 2 entries are numbered from 0"),
        ("steps.².degrees=1", "steps has no entry '²'; its 2 entries are numbered from 0"),
        ("steps.0.degrees=1", "no field"),
        ("name.first=1", "name is a value and has no fields"),
        ("sizes=[1", "is not valid JSON"),
        ("name", "write path.to.field=value"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        changed(Outer(), [change])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"rat": 1}}, "config.inner has no field 'rat'; did you mean 'rate'"),
        ({"inner": {"rate": True}}, "config.inner.rate is a number, not True"),
        ({"steps": [{"kind": "Twist"}]}, "config.steps.0 is Turn or Crop, not 'Twist'"),
        ({"steps": [{"kind": []}]}, r"config.steps.0 is Turn or Crop, not \[\]"),
        ({"inner": {"kind": {}}}, "config.inner is Inner, not {}"),
        ({"inner": {"rate": 10**400}}, "config.inner.rate is a number, not 1000"),
        ({"names": "ab"}, "config.names is a list of text"),
        ({"inner": {"rate": 0}}, "config.inner: rate is above 0"),
    ],
)
def test_json_that_does_not_fit_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_json(Outer, values)


def test_words_of_version_0_1_are_read() -> None:
    assert changed(Sampling(), ["draw=centre"]) == Sampling(draw="deterministic")
    assert from_json(StartConfig, {"of": "live"}) == StartConfig(of="online")
    stored = {"scratch": {"sampling": {"draw": "centre"}}}
    assert from_json(StartConfig, stored).scratch.sampling.draw == "deterministic"


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    frames: int = ranged(8, 1)
    shortest: float = ranged(0.5, 0.1, 1)
    longest: float = ranged(1.0, "shortest", 1)
    angles: tuple[float, ...] = ranged((0.0, 90.0), -180, 180)
    edges: Literal["mirror", "repeat", "zero"] = "zero"
    free: str = "anything"


def test_defaults_and_bounds_are_taken() -> None:
    assert Settings() == Settings(frames=8, shortest=0.5, longest=1.0, angles=(0.0, 90.0), edges="zero")
    assert Settings(frames=1, shortest=0.1, longest=0.1, angles=(-180.0, 180.0)).longest == 0.1
    assert Settings(angles=()).angles == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames is at least 1, not 0"),
        ({"frames": float("nan")}, "frames is nan"),
        ({"shortest": 1.5}, "shortest is 1.5, expected 0.1 to 1"),
        ({"longest": 0.4}, "longest is 0.4, expected 0.5 to 1"),
        ({"angles": (0.0, 181.0)}, "angles is 181.0, expected -180 to 180"),
        ({"edges": "wrap"}, "edges is 'mirror', 'repeat' or 'zero', not 'wrap'"),
    ],
)
def test_others_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)
    with pytest.raises(ValueError, match=message):
        replace(Settings(), **wrong)
