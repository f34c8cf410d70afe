"""Classes in words, and sentences around them."""

import pytest

from posecap.joints import BODY_PARTS
from tmor_train.benchmarks import smarthome, uav_human
from tmor_train.data.datasets import msr_action3d, penn_action, sbu, utd_mhad, utkinect
from tmor_train.data.datasets.action_descriptions import MOVEMENTS, PARAPHRASES, PART_SENTENCES
from tmor_train.data_sources import MissingTextError
from tmor_train.prompts import PROMPTS, all_prompts, class_texts, prompts


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
        MissingTextError,
        match=r"1 classes, such as 'knitting', have no description .* for the prompts movement; leave 'movement' out",
    ):
        prompts("movement", ["bowling", "knitting"])


def test_body_parts_have_the_movement_and_a_sentence_for_each_part() -> None:
    found = prompts("body_parts", ["bowling", "walking"])
    assert len(found) == 2 * (1 + len(BODY_PARTS))
    assert found[0] == MOVEMENTS["bowling"]
    assert found[5] == MOVEMENTS["walking"]
    for part, sentence in zip(("head", "arm", "hips", "leg"), found[6:], strict=True):
        assert part in sentence
    with pytest.raises(MissingTextError, match="knitting"):
        prompts("body_parts", ["bowling", "knitting"])


def test_paraphrases_are_the_movement_and_three_other_sentences_for_classes_that_have_them() -> None:
    found = prompts("paraphrases", ["bowling with the right hand", "doing sit-ups"])
    assert found[0] == MOVEMENTS["bowling"]
    assert found[1:4] == list(PARAPHRASES[MOVEMENTS["bowling"]])
    assert found[4] == MOVEMENTS["doing sit-ups"]
    assert len(found) == len(set(found)) == 8
    assert set(prompts("paraphrases", list(penn_action.CAPTIONS.values()))) < set(
        all_prompts(list(penn_action.CAPTIONS.values()))
    )
    assert not set(found) & set(all_prompts(["walking"]))
    with pytest.raises(MissingTextError, match="leave 'paraphrases' out"):
        prompts("paraphrases", ["bowling", "walking"])  # a movement, without other sentences


def test_every_movement_has_sentences_on_parts_and_no_two_the_same() -> None:
    assert set(PART_SENTENCES) == set(MOVEMENTS.values())
    assert len(set(PART_SENTENCES.values())) == len(PART_SENTENCES)


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
