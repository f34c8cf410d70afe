"""The programs and notebooks in examples/ run as they say, each in a process of its own, on small data."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import posecap
from posecap.types import PartName
from tests import ROOT, building, built, models_at_hand, small
from tests.tmor_train.test_recognition import FPS, PIPELINE, jumping, walking

EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: object, folder: Path) -> str:
    """What an example prints; it runs in ``folder``, offline but for packages."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    words = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two classes in train and test, their captions' vectors as long as those of MiniLM."""
    root = tmp_path_factory.mktemp("examples") / "labelled"
    parts = {}
    for number, split in enumerate(("train", "test")):
        kept = []
        for at, label in enumerate(("sitting", "walking")):
            row = building.row(row_id=f"{split}-{label}", uri=f"{split}-{label}.mp4", split=split, label=label)
            first = 10 * number + 5 * at
            kept += built.samples(4, first=first, row=row, people=1, frames=10, text_dimension=384)
        parts[PartName(split, number)] = kept
    built.build(root, parts)
    return root


@pytest.fixture(scope="module")
def pretrained(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run's folder that the example of pre-training leaves, and what it printed."""
    folder = tmp_path_factory.mktemp("pretrained")
    said = run("pretrain_and_probe.py", labelled, "--epochs", 1, folder=folder)
    return folder / "runs" / "example" / "pretrain", said


def test_every_example_says_how_to_run_it_and_is_tested() -> None:
    tested = Path(__file__).read_text()
    for path in sorted(EXAMPLES.glob("*.py")):
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(path.read_text())) or "")
        assert f'"{path.name}"' in tested
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        first, *others = json.loads(path.read_text())["cells"]
        assert "    pip install -e" in "".join(first["source"])
        assert [cell["outputs"] for cell in others if cell["cell_type"] == "code" and cell["outputs"]] == []
        assert f'"{path.name}"' in tested


@pytest.mark.slow
def test_build_a_dataset_from_your_own_folder(media: Path, tmp_path: Path) -> None:
    (tmp_path / "videos" / "balancing").mkdir(parents=True)
    (tmp_path / "videos" / "balancing" / "man.mp4").symlink_to(media / "people.mp4")
    quick = small.manifest(tmp_path / "quick", [small.KEPT]).with_name("pipeline.py")
    terms = ("--license", "CC0-1.0", "--contact", "https://example.org/contact")
    said = run("build_from_folder.py", "videos", *terms, "--pipeline", quick, folder=tmp_path)
    assert "1 people, 15 frames, 17 joints; " in said.splitlines()[-1]
    assert posecap.index(tmp_path / "datasets" / "mine").to_table()["label"].to_pylist() == ["balancing"]
    again = run("build_from_folder.py", "videos", *terms, "--pipeline", quick, folder=tmp_path)
    assert "every part is built; nothing to do" in again
    with pytest.raises(AssertionError, match=r"mine\.yaml is of another folder or pipeline"):
        run("build_from_folder.py", "elsewhere", *terms, "--pipeline", quick, folder=tmp_path)


def test_write_an_engine(tmp_path: Path) -> None:
    said = run("write_an_engine.py", folder=tmp_path)
    assert "'text': {'name': 'hashed-words', 'dimension': 256}" in said
    assert "with 'a man walks' 0.82, with 'a woman sits down' 0.00" in said


def test_its_pipeline_builds(media: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path, [small.KEPT], media_root=media)
    pipeline = path.with_name("pipeline.py")
    pipeline.write_text(pipeline.read_text().replace(str(small.DEFAULT), str(EXAMPLES / "write_an_engine.py")))
    root = small.build(path).root
    (key,) = posecap.index(root).to_table()["key"].to_pylist()
    sample = posecap.read(root, key)
    assert sample.text_CD.shape[1] == 256
    np.testing.assert_allclose(np.linalg.norm(sample.text_CD, axis=1), 1, rtol=1e-6)
    assert posecap.index(root).to_table()["text_model"].to_pylist() == ["hashed-words"]


@pytest.mark.slow
def test_read_shards_in_three_ways(labelled: Path, tmp_path: Path) -> None:
    lines = run("read_shards.py", labelled, "--split", "test", folder=tmp_path).splitlines()
    keys = posecap.index(labelled, "test").to_table()["key"].to_pylist()
    for way in ("webdataset", "datasets"):
        assert [line.split()[1] for line in lines if line.startswith(f"{way}: ")] == keys
    assert len([line for line in lines if line.startswith("torch: ")]) == 4  # two epochs of two workers


@pytest.mark.slow
def test_pretrain_and_probe(pretrained: tuple[Path, str]) -> None:
    _, said = pretrained
    assert "% trained, " in said.splitlines()[-1]
    assert "% never trained" in said.splitlines()[-1]


@pytest.mark.slow
def test_name_a_skeleton(pretrained: tuple[Path, str], labelled: Path, tmp_path: Path) -> None:
    models_at_hand.weights_or_skip("minilm-l6-v2-int8", "minilm-l6-v2-tokenizer")
    texts = ("walking", "sitting down", "raising arms")
    lines = run("name_a_skeleton.py", pretrained[0], labelled, *texts, folder=tmp_path).splitlines()
    assert lines[0].endswith("a vector of 256 numbers")
    cosines = [float(line.split()[0]) for line in lines[1:]]
    assert cosines == sorted(cosines, reverse=True)
    assert sorted(line.split(maxsplit=1)[1] for line in lines[1:]) == sorted(texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed", "pictures"),
    [
        ("look_at_a_dataset.ipynb", ["16 clips;", "joints_BMTJ3  (4, 1, 10, 17, 3)"], 2),
        ("filter_and_export.ipynb", [": 8 of 16 clips", "kept.json: 8 clips", "8 samples; the same joints: True"], 2),
        ("train_and_name_actions.ipynb", ["loss ", "(16, 256)", " walking → "], 3),
    ],
)
def test_a_notebook_runs(
    name: str, printed: list[str], pictures: int, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel run notebooks")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("POSECAP_EXAMPLE_DATASET", str(labelled))
    monkeypatch.setenv("POSECAP_EXAMPLE_EPOCHS", "1")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert [words for words in printed if words not in said] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == pictures


@pytest.mark.slow
def test_recognize_a_video(pretrained: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "colours.py").write_text(PIPELINE)
    for name, acted in (("jumping", jumping), ("walking", walking)):
        (tmp_path / "examples" / name).mkdir(parents=True)
        small.film(tmp_path / "examples" / name / "one.mp4", acted(2), fps=FPS)
    video = small.film(tmp_path / "video.mp4", jumping(2), fps=FPS)
    words = (pretrained[0], "examples", video, "--pipeline", "colours.py")
    assert run("recognize_a_video.py", *words, folder=tmp_path).startswith("0.0 to 2.0 s: person 1, jumping, ")
    *_, last = run("recognize_a_video.py", *words, "--live", folder=tmp_path).splitlines()
    assert last.startswith("1.9 s: person 1, ")
