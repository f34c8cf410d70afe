from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.stage import Engine, Reject, configuration
from posecap.stages.caption import WriteCaptions, action_phrase, clean, gerund, label_words
from posecap.types import Caption, CaptionedClip, Row, SkeletonClip
from tests.building import row, skeleton


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


@dataclass(frozen=True)
class Parrot(Engine):
    """A captioner that always says the same; ``calls`` counts how often it is asked."""

    name: ClassVar[str] = "parrot"
    sentences: tuple[str, ...] = ("a walker in the rain",)
    calls: ClassVar[list[str]] = []

    def write(self, clip: SkeletonClip) -> Sequence[str]:
        self.calls.append(clip.clip_id)
        return self.sentences


def written(of: Row, **settings: object) -> list[tuple[str, str]]:
    (made,) = WriteCaptions(**settings)(skeleton(row=of))  # type: ignore[arg-type]
    assert type(made) is CaptionedClip
    return [(caption.text, caption.origin) for caption in made.captions]


def test_row_label_and_captioner_each_name_their_origin() -> None:
    made = written(row(label="riding_a_bike", captions=("He rides.", "Off he goes")), captioners=(Parrot(),))
    assert made == [
        ("He rides.", "row"),
        ("Off he goes", "row"),
        ("riding a bike", "label"),
        ("a person is riding a bike", "template:a person is {}"),
        ("a video of a person riding a bike", "template:a video of a person {}"),
        ("a walker in the rain", "parrot"),
    ]


@pytest.mark.parametrize(
    ("label", "sentences"),
    [
        ("push-ups", ["push-ups", "a person is doing push-ups", "a video of a person doing push-ups"]),
        ("brush_hair", ["brush hair", "a person is brushing hair", "a video of a person brushing hair"]),
        ("riding a bike", ["riding a bike", "a person is riding a bike", "a video of a person riding a bike"]),
        ("noFight", ["no fight"]),
        ("A001", ["A001"]),
    ],
)
def test_templates_take_what_a_person_does_or_leave_the_label_alone(label: str, sentences: list[str]) -> None:
    assert [text for text, _ in written(row(label=label, captions=()), label_grammar="english")] == sentences


def test_duplicates_leave_the_first() -> None:
    captions = ("A man walks.", "a man walks", "A MAN walks!", "", "  ", "...", "a man\twalks\n.")
    made = written(row(label="A man walks", captions=captions))
    assert made == [
        ("A man walks.", "row"),
        ("a person is A man walks", "template:a person is {}"),
        ("a video of a person A man walks", "template:a video of a person {}"),
    ]


def test_a_full_clip_asks_no_captioner() -> None:
    Parrot.calls.clear()
    full = row(captions=tuple(f"sentence {i}" for i in range(20)))
    assert written(full, most=4, captioners=(Parrot(),)) == [(f"sentence {i}", "row") for i in range(4)]
    assert Parrot.calls == []
    assert written(row(label=None, captions=()), most=4, captioners=(Parrot(),)) == [("a walker in the rain", "parrot")]
    assert len(Parrot.calls) == 1


def test_a_row_is_checked_before_there_is_a_clip() -> None:
    WriteCaptions().check_row(row(label="jump"))
    WriteCaptions(captioners=(Parrot(),)).check_row(row(label=None, captions=()))
    WriteCaptions(fewest=0).check_row(row(label=None, captions=()))
    with pytest.raises(Reject, match="no_caption: 0 usable sentences, needs 1"):
        WriteCaptions().check_row(row(label="...", captions=("!",)))


def test_no_caption() -> None:
    with pytest.raises(Reject) as rejected:
        list(WriteCaptions()(skeleton(row=row(label="__", captions=("https://a.example/b", "\u200b")))))
    assert (rejected.value.reason, rejected.value.detail) == (
        "no_caption",
        "0 usable sentences, needs 1: give the row a caption or a label",
    )
    with pytest.raises(Reject, match="no_caption: 3 usable sentences, needs 4"):
        list(WriteCaptions(fewest=4)(skeleton(row=row(captions=()))))
    (made,) = WriteCaptions(fewest=0)(skeleton(row=row(label=None, captions=())))
    assert made.captions == ()


def test_hostile_labels_are_text_and_nothing_else() -> None:
    made = written(row(label="{0.__class__} {}", captions=()), templates=("{}", "watch {}"))
    assert made == [("{0. class } {}", "label"), ("watch {0. class } {}", "template:watch {}")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  two\u00a0 words \r\n", "two words"),
        ("ﬁne ｗｉｄｅ ①", "fine wide 1"),
        ("cafe\u0301", "caf\u00e9"),
        ("bell\x07 nul\x00le\x1b[31m", "bell nul le [31m"),
        ("over\u202eride \ufeffzero\u200bwidth \ud800", "override zerowidth"),
        ("line\u2028break", "line break"),
        ("see https://e.example/x?y=1 now", "see now"),
        ("WWW.example.org/x", ""),
        ("ht\u200btp://e.example hidden", "hidden"),
        ("می\u200cروم", "می\u200cروم"),
        ("走る人", "走る人"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_cleaning(raw: str, expected: str) -> None:
    assert clean(raw, longest_characters=50) == expected


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(13, "one two three"), (12, "one two"), (7, "one two"), (6, "one"), (3, "one"), (2, "on"), (1, "o")],
)
def test_long_sentences_end_at_a_whole_word(longest: int, expected: str) -> None:
    assert clean("one two three", longest_characters=longest) == expected


@given(text=st.text(max_size=60), longest=st.integers(1, 40))
def test_cleaning_is_final_bounded_and_leaves_plain_text(text: str, longest: int) -> None:
    once = clean(text, longest_characters=longest)
    assert clean(once, longest_characters=longest) == once
    assert len(once) <= longest
    assert once == " ".join(once.split())
    assert unicodedata.is_normalized("NFKC", once)
    assert all(not unicodedata.category(c).startswith("C") or c in "\u200c\u200d" for c in once)
    once.encode()


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("clean_and_jerk", "clean and jerk"),
        ("SoccerJuggling", "soccer juggling"),
        ("brushTeeth", "brush teeth"),
        ("WatchTV", "watch TV"),
        ("TVRemote", "TV remote"),
        ("Cook.Cutbread", "cook cutbread"),
        ("high__jump_", "high jump"),
        ("push-up", "push-up"),
        ("version1.5", "version1.5"),
        ("playing McDonald's  tunes", "playing McDonald's tunes"),
        ("tai_chi outdoors", "tai chi outdoors"),
        ("Walking", "walking"),
        ("_", ""),
        ("", ""),
    ],
)
def test_labels_become_words(label: str, words: str) -> None:
    assert label_words(label) == words


def test_settings_are_checked_and_written_down() -> None:
    with pytest.raises(ValueError, match=r"template 'a person' needs exactly one \{\}"):
        WriteCaptions(templates=("a person",))
    with pytest.raises(ValueError, match="0 <= fewest <= most, got 300, 9 and 8"):
        WriteCaptions(fewest=9)
    written_down = configuration(WriteCaptions(captioners=(Parrot(),)))
    assert written_down["captioners"] == [{"name": "parrot", "sentences": ["a walker in the rain"]}]
    assert written_down["templates"] == ["{}", "a person is {}", "a video of a person {}"]


def test_captions_are_nouns() -> None:
    (made,) = WriteCaptions(templates=())(skeleton(row=row(captions=("One.",))))
    assert made.captions == (Caption("One.", "row"),)
