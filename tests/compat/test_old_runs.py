"""Runs of tmor_train 0.1.0: their checkpoints load, they go on, and their results are reported."""

import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tmor_train
from tmor_train.cli import main
from tmor_train.configuration import as_json, changed, from_json
from tmor_train.recipes import RECIPES, recipe
from tmor_train.results import read_result, read_scores

torch.set_num_threads(1)
OLD = Path(__file__).parent / "format_1"
RECORDED = json.loads((OLD / "recipes.json").read_text())
# Of recipes whose numbers were corrected since, what was recorded.
CORRECTED = dict.fromkeys(("motionclip", "sets_motionclip"), ("method.reconstruction=1", "method.velocity=100"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old run beside the dataset that it was trained on, in the current directory."""
    shutil.copytree(OLD / "dataset", tmp_path / "dataset")
    folder = shutil.copytree(OLD / "run", tmp_path / "run")
    (packed,) = (folder / "checkpoints").iterdir()
    packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    packed.unlink()
    monkeypatch.chdir(tmp_path)
    return folder


def test_its_checkpoint_embeds_as_it_did(run: Path) -> None:
    joints_MTJ3 = np.load(OLD / "skeleton.npy")
    encoder = tmor_train.load(run)
    assert encoder.sampling.frames == 8
    embedding = encoder.embed(joints_MTJ3, layout="coco17", size=(160, 90))
    np.testing.assert_allclose(embedding, np.load(OLD / "embedding.npy"), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (before,) = (run / "checkpoints").glob("step-*.pt")
    assert main(["resume", str(run)]) == 0
    (after,) = (run / "checkpoints").glob("step-*.pt")
    assert after.name > before.name
    assert "epoch 3/3" in capsys.readouterr().err
    assert tmor_train.load(run).path == after


def test_its_results_are_read_and_reported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_result(OLD / "probe")
    assert (result.mode, result.benchmark, result.protocol) == ("probe", "shards", "own")
    assert read_scores(OLD / "probe").scores_NK.shape == (4, 2)
    shutil.copytree(OLD / "probe", run / "probe")
    assert main(["report", str(run), "--output", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.endswith("page.html: 2 results\n")


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_recipe_was_recorded_as_is_that_recipe(name: str) -> None:
    now = changed(recipe(name), CORRECTED.get(name, ()))
    read = from_json(type(now), RECORDED[name])
    assert as_json(read) == as_json(now)


def test_every_recipe_is_still_there() -> None:
    assert RECORDED.keys() <= RECIPES.keys()
