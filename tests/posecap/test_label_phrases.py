"""Labels as data sets write them: what follows "a person is", or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.label_phrases import action_phrase, gerund
from posecap.stages.caption import label_words


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        # Kinetics, UCF101
        ("playing guitar", "playing guitar"),
        ("Playing Guitar", "playing guitar"),
        ("clean and jerk", "doing clean and jerk"),
        ("CleanAndJerk", "doing clean and jerk"),
        ("yoga", "doing yoga"),
        ("pull ups", "doing pull ups"),
        ("push-ups", "doing push-ups"),
        ("HandstandPushups", "doing handstand pushups"),
        ("BodyWeightSquats", "doing body weight squats"),
        ("BasketballDunk", "doing a basketball dunk"),
        ("Basketball", "playing basketball"),
        ("air hockey", "playing air hockey"),
        ("JumpingJack", "doing a jumping jack"),
        ("HorseRiding", "horse riding"),
        ("RockClimbingIndoor", "rock climbing indoor"),
        ("SkateBoarding", "skate boarding"),
        ("BlowDryHair", "blow drying hair"),
        ("changing wheel (not on bike)", "changing wheel"),
        # HMDB51, Penn Action
        ("brush_hair", "brushing hair"),
        ("flic_flac", "doing a flic flac"),
        ("ride_bike", "riding bike"),
        ("situp", "doing a situp"),
        ("run", "running"),
        ("tennis_serve", "doing a tennis serve"),
        # NTU RGB+D
        ("drink water", "drinking water"),
        ("eat meal/snack", "eating meal or snack"),
        ("make a phone call/answer phone", "making a phone call or answering phone"),
        ("nod head/bow", "nodding head or bowing"),
        ("hopping (one foot jumping)", "hopping"),
        ("take off glasses", "taking off glasses"),
        ("WatchTV", "watching TV"),
        ("fight", "fighting"),
        ("RUN", "running"),
        # codes, what is not done, who does it, and what is in no list
        ("A001", None),
        ("class_12", None),
        ("jump2", None),
        ("noFight", None),
        ("non-violence", None),
        ("normal", None),
        ("kitchen", None),
        ("building", None),
        ("spring", None),
        ("baby waking up", None),
        ("person running", None),
        ("体操", None),
        ("run/", None),
    ],
)
def test_labels_of_known_data_sets(label: str, phrase: str | None) -> None:
    assert action_phrase(label_words(label)) == phrase


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("brush", "brushing"),
        ("ride", "riding"),
        ("run", "running"),
        ("squat", "squatting"),
        ("lie", "lying"),
        ("eat", "eating"),
        ("throw", "throwing"),
        ("climb", "climbing"),
        ("clap", "clapping"),
        ("answer", "answering"),
        ("open", "opening"),
        ("mix", "mixing"),
        ("play", "playing"),
        ("hug", "hugging"),
        ("vomit", "vomiting"),
        ("dye", "dyeing"),
    ],
)
def test_forms_in_ing(verb: str, form: str) -> None:
    assert gerund(verb) == form


@given(st.text(max_size=40))
def test_any_label_has_a_phrase_or_none(label: str) -> None:
    words = label_words(label)
    phrase = action_phrase(words)
    assert phrase is None or phrase.strip()
