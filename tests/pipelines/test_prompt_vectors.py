"""``pipelines/prompt_vectors.py``: the sentences of benchmarks, and their vectors as a file."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests import ROOT
from tests.programs import program
from tmor_train.data_sources import sentence_vectors
from tmor_train.prompts import all_prompts, class_texts

PIPELINE = ROOT / "pipelines/prompt_vectors.py"


class Counting:
    """Vectors of a sentence's length and its number in the list."""

    def embed_text(self, sentences: list[str]) -> np.ndarray:
        return np.array([[len(words), at] for at, words in enumerate(sentences)], np.float32)


@pytest.fixture
def pipeline() -> ModuleType:
    return program(PIPELINE)


def test_a_row_for_each_sentence_of_all_benchmarks(
    pipeline: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "embedder", lambda name: Counting())
    pipeline.main([str(tmp_path / "p.parquet"), "penn_action", "smarthome"])
    wanted = all_prompts(class_texts("penn_action", ["bowl"]))
    found = sentence_vectors(tmp_path / "p.parquet", wanted, remedy="")
    assert found[:, 0].tolist() == [len(words) for words in wanted]


def test_the_list_has_every_sentence_once(pipeline: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.main(["unused", "penn_action", "penn_action", "--list"])
    lines = capsys.readouterr().out.splitlines()
    # Names, their sentences, and movements in four wordings; of the 15 * 4 sentences on parts some are said of several
    # classes.
    assert 15 * 21 < len(lines) == len(set(lines)) <= 15 * 25
    assert "a video of a person bowling" in lines
    assert not Path("unused").exists()


def test_classes_in_own_words(pipeline: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.main(["unused", "--list", "--class-texts", "sitting", "drinking water"])
    assert capsys.readouterr().out.splitlines() == all_prompts(["sitting", "drinking water"])
    with pytest.raises(SystemExit):
        pipeline.main(["unused", "--list"])
    assert "name a benchmark, or give --class-texts" in capsys.readouterr().err


def test_classes_with_codes_for_names_ask_for_words(pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CLASS_WORDS", {"uav_human": {"A001": ""}})
    with pytest.raises(SystemExit, match=r"1 classes of uav_human have codes .* --class-texts"):
        pipeline.sentences_of(["uav_human"])


def test_classes_of_a_dataset_are_in_its_folder(pipeline: ModuleType) -> None:
    with pytest.raises(SystemExit, match="name their folder, shards=FOLDER"):
        pipeline.sentences_of(["shards"])
