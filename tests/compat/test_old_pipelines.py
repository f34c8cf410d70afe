"""Pipeline files of posecap 0.1.0 run as they are, with a hint for each old word, and mean what they meant."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from posecap import legacy
from posecap.pipeline import PipelineError, load_pipeline
from posecap.stage import configuration
from tests import ROOT

OLD = Path(__file__).parent / "format_1"
PIPELINES = json.loads((OLD / "pipelines.json").read_text())
ENGINES = json.loads((OLD / "engines.json").read_text())


def of_today(name: str) -> Path:
    """The pipeline that took the place of the one named ``name``."""
    return ROOT / "pipelines" / legacy.PIPELINES.get(f"{name}.py", f"{name}.py")


@pytest.mark.parametrize("name", PIPELINES)
def test_a_file_gives_the_pipeline_that_it_gave(name: str) -> None:
    with pytest.warns(FutureWarning) as hints:
        old = load_pipeline(OLD / f"{name}.py.txt")
    said = [str(hint.message) for hint in hints]
    assert "posecap.ports is posecap.interfaces now: write the new word" in said
    assert Path(hints[0].filename) == OLD / f"{name}.py.txt"
    assert json.loads(json.dumps(legacy.as_format_1(old.configuration()))) == PIPELINES[name]
    assert old.worker == load_pipeline(of_today(name)).worker


@pytest.mark.parametrize("name", PIPELINES)
def test_what_sidecars_recorded_of_a_pipeline_is_known(name: str) -> None:
    written = PIPELINES[name]
    with pytest.warns(FutureWarning):
        now = load_pipeline(OLD / f"{name}.py.txt").configuration()
    assert [legacy.upgraded(stage) for stage in written] == json.loads(json.dumps(now))
    assert json.loads(json.dumps(legacy.as_format_1(now))) == written


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine["class"])
def test_every_engine_is_recorded_as_it_was(engine: dict[str, Any]) -> None:
    name = legacy.CLASSES.get(engine["class"], engine["class"])
    made = getattr(import_module(legacy.MODULES.get(engine["module"], engine["module"])), name)
    words = legacy.KEYWORDS.get(name, {})
    now = configuration(made(**{words.get(key, key): value for key, value in engine["keywords"].items()}))
    for holder in ("detector", "tracker", "estimator", "fetchers", "text", "video"):
        upgraded = legacy.upgraded(engine["configuration"], held_by=holder)
        if upgraded == json.loads(json.dumps(now)):
            (one,) = legacy.as_format_1([{"name": "stage", holder: now}])
            assert json.loads(json.dumps(one[holder])) == engine["configuration"]
            return
    raise AssertionError(f"{now} is not what 0.1.0 recorded: {engine['configuration']}")


def test_a_manifest_that_names_the_default_demo_is_built_with_the_default() -> None:
    with pytest.warns(FutureWarning, match=r"pipeline demo\.py is default\.py now"):
        old = load_pipeline(ROOT / "manifests" / ".." / "pipelines" / "demo.py")
    assert old.configuration() == load_pipeline(ROOT / "pipelines" / "default.py").configuration()


def test_it_is_found_where_there_is_no_folder_of_pipelines(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="default"):
        assert load_pipeline(tmp_path / "pipelines" / "demo.py").stages
    with pytest.raises(PipelineError, match="no pipeline file"):
        load_pipeline(tmp_path / "demo.py")


def test_a_file_named_demo_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "default.py").write_text("")
    (tmp_path / "demo.py").write_text((ROOT / "pipelines" / "default.py").read_text())
    assert load_pipeline(tmp_path / "demo.py").stages


def test_fields_of_both_names_are_both_recorded() -> None:
    """A detector of somebody's own that has ``conf`` and ``score``: neither may hide the other from the fingerprint."""
    written = [{"name": "track", "detector": {"name": "mine", "conf": 0.1, "score": 0.9}}]
    assert legacy.as_format_1(written) == written
    assert [legacy.upgraded(stage) for stage in written] == written


def test_an_argument_that_is_gone_is_passed_over_with_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from posecap.engines.pyav import PyAV\nprober = PyAV(side_at_most=99, damaged_at_most=18)\n")
    with (
        pytest.warns(FutureWarning, match="damaged_at_most") as hints,
        pytest.raises(PipelineError, match="defines no"),
    ):
        load_pipeline(file)
    assert str(hints[0].message).startswith("PyAV(damaged_at_most=…) is Decode(most_damaged=…) now")


@pytest.mark.parametrize("module", legacy.MODULES)
def test_every_module_is_where_the_table_says(module: str) -> None:
    import_module(legacy.MODULES[module])


def test_an_engine_of_ones_own_finds_what_it_was_written_with(tmp_path: Path) -> None:
    """What docs and engines of 0.1.0 used to import to write an engine."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from posecap.fetching.archives import take\n"
        "from posecap.fetching.registry import PackageFile, cache_folder, fetch\n"
        "from posecap.footage.clock import frames_of, on_the_videos_clock\n"
        "from posecap.footage.take import Take, Thinner\n"
        "from posecap.inference.batching import Batches\n"
        "from posecap.inference.clip_text import clean_caption\n"
        "from posecap.inference.onnx_session import OnnxNetwork, normalised\n"
        "from posecap.inference.remembered import Remembered\n"
        "from posecap.inference.resampling import resized, sampled\n"
        "from posecap.inference.top_down import Sight, gathered, sights\n"
        "from posecap.inference.torchvision_ops import ensure_torchvision\n"
        "from posecap.models import identity, locate\n"
        "from posecap.skeletons.oks import similarity\n"
        "from posecap.skeletons.quality import measure\n"
    )
    with pytest.warns(FutureWarning), pytest.raises(PipelineError, match="defines no"):
        load_pipeline(file)
