"""Classes in words, sentences around them, and their vectors out of a file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tmor_train.benchmarks import smarthome, uav_human
from tmor_train.data.datasets import msr_action3d, penn_action, sbu, utd_mhad, utkinect
from tmor_train.data.datasets.action_descriptions import MOVEMENTS
from tmor_train.prompts import PROMPTS, MissingTextError, all_prompts, class_texts, prompt_vectors, prompts


def test_sets_of_prompts() -> None:
    assert prompts("plain", ["walk", "sit down"]) == ["walk", "sit down"]
    assert prompts("person", ["walk"]) == ["a video of a person walk"]
    templates = PROMPTS["templates"]
    assert len(templates) == len(set(templates)) == 16
    assert all(template.count("{}") == 1 for template in templates)
    two = prompts("templates", ["walk", "sit down"])
    assert two[:16] == [template.format("walk") for template in templates]  # class by class
    assert two[16:] == [template.format("sit down") for template in templates]


def test_movements_stand_for_names() -> None:
    bowl, squat = (MOVEMENTS[text] for text in ("bowling", "squatting with a barbell"))
    assert prompts("movement", ["bowling", "squatting with a barbell"]) == [bowl, squat]
    assert {bowl, squat} < set(all_prompts(["bowling", "squatting with a barbell"]))
    assert not set(MOVEMENTS.values()) & set(all_prompts(["bowling", "knitting"]))
    with pytest.raises(
        MissingTextError, match=r"1 classes, such as 'knitting', have no description of .* leave 'movement' out"
    ):
        prompts("movement", ["bowling", "knitting"])


def test_every_action_of_the_sets_has_a_movement_and_one_action_one_alone() -> None:
    captions = [*penn_action.CAPTIONS.values(), *utkinect.CAPTIONS.values()]
    captions += [*utd_mhad.CLASSES, *msr_action3d.CLASSES, *sbu.CLASSES]
    assert set(MOVEMENTS) == set(captions)
    for one, other in (
        ("bowling", "bowling with the right hand"),
        ("squatting with a barbell", "squatting with both arms stretched out"),
        ("hitting a tennis forehand", "swinging a tennis racket"),
    ):
        assert MOVEMENTS[one] == MOVEMENTS[other]


def test_braces_in_a_class_stay_as_they_are() -> None:
    assert prompts("person", ["{} {0}"]) == ["a video of a person {} {0}"]


def test_all_prompts_have_no_repeats() -> None:
    found = all_prompts(["walk", "sit down", "walk"])
    assert len(found) == len(set(found)) == 2 * (1 + 1 + 16 - 1)  # the class alone is a template, too


def test_every_class_of_smarthome_and_penn_has_words() -> None:
    assert len(smarthome.CLASSES) == 31
    assert class_texts("smarthome", smarthome.CLASSES) == tuple(smarthome.CAPTIONS.values())
    assert class_texts("smarthome", ["WatchTV", "Cook.Cleandishes"]) == ("watch tv", "cleaning dishes")
    assert class_texts("penn_action", list(penn_action.CAPTIONS)) == tuple(penn_action.CAPTIONS.values())


def test_other_classes_go_by_their_own_names_and_codes_are_refused() -> None:
    assert class_texts("shards", ["sit_down", "walking  fast"]) == ("sit down", "walking fast")
    with pytest.raises(MissingTextError, match=r"155 classes of uav_human have codes.*--set class_texts="):
        class_texts("uav_human", uav_human.CLASSES)


def _file(path: Path, sentences: list[str], vectors: list[list[float]]) -> Path:
    pq.write_table(pa.table({"sentence": sentences, "vector": vectors}), path)
    return path


def test_vectors_come_in_the_order_of_the_sentences(tmp_path: Path) -> None:
    path = _file(tmp_path / "p.parquet", ["a", "b", "c"], [[1, 0], [0, 1], [2, 2]])
    found = prompt_vectors(path, ["c", "a", "c"], remedy="make it")
    assert found.dtype == np.float32
    assert found.tolist() == [[2, 2], [1, 0], [2, 2]]


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingTextError, match=r"p\.parquet.*is missing; make it: do this"):
        prompt_vectors(tmp_path / "p.parquet", ["a"], remedy="do this")
    path = _file(tmp_path / "p.parquet", ["a"], [[1, 0]])
    with pytest.raises(MissingTextError, match=r"no vector for 2 sentences, among them 'b'; make it again: do this"):
        prompt_vectors(path, ["a", "b", "c", "b"], remedy="do this")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(MissingTextError, match=r"p\.parquet holds no columns"):
        prompt_vectors(path, ["a"], remedy="")
    latin = pa.Array.from_buffers(pa.string(), 2, pa.array(["a", b"\xfc"], pa.binary()).buffers())
    pq.write_table(pa.table({"sentence": latin, "vector": [[1.0], [1.0]]}), path)
    with pytest.raises(MissingTextError, match=r"p\.parquet, row 2: its sentence is not UTF-8; make it again: do this"):
        prompt_vectors(path, ["a"], remedy="do this")
    pq.write_table(pa.table({"sentence": ["a"]}), path)
    with pytest.raises(MissingTextError, match=r"p\.parquet holds no columns"):
        prompt_vectors(path, ["a"], remedy="")
    for column in ([1.0], [["b"]], [[[1.0]]]):
        pq.write_table(pa.table({"sentence": ["a"], "vector": column}), path)
        with pytest.raises(MissingTextError, match=r"p\.parquet holds no columns .* expected lists of numbers"):
            prompt_vectors(path, ["a"], remedy="")
    with pytest.raises(MissingTextError, match="several lengths"):
        prompt_vectors(_file(path, ["a", "b"], [[1.0], [1.0, 2.0]]), ["a", "b"], remedy="")
    pq.write_table(pa.table({"sentence": ["a"], "vector": pa.array([None], pa.list_(pa.float32()))}), path)
    with pytest.raises(MissingTextError, match="no vector for 1 sentences, among them 'a'"):
        prompt_vectors(path, ["a"], remedy="")
    with pytest.raises(MissingTextError, match="NaN"):
        prompt_vectors(_file(path, ["a"], [[float("nan")]]), ["a"], remedy="")
