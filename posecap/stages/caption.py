"""Captions of a clip: the row's captions, its label as text, and sentences of captioners.

English labels are also put as what a person does (:func:`action_phrase`): ``brush hair`` gives ``brushing hair``,
``push-ups`` gives ``doing push-ups``. Three kinds are known: activities in -ing, verbs in their base form, and names of
exercises, strokes and games. The words are those of the labels of Kinetics, NTU RGB+D, UCF101, HMDB51 and Penn Action.
Any other label has no phrase, since a guess makes sentences such as "a person is kitchen": codes (``A001``,
``class 12``), what is not done (``no fight``) and words that are in no list.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from posecap.files import digest
from posecap.interfaces import Captioner, SelectiveCaptioner
from posecap.stage import Reject, Stage
from posecap.types import Addition, Caption, CaptionedClip, Row, SampledRow, Sentences, SkeletonClip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VERBS = _words(
    """
    answer apply ask assemble attack bake bat beat bend blow board boil bounce bow bowl box braid break breathe bring
    brush build burn button buy call carry catch change chase check cheer chew chop clap clean clear climb close comb
    cook cough count cover crawl cross cry curl cut dance dig dip dive do drag draw dress dribble drink drive drop
    drum dry duck eat enter exit fall feed fight fill fish fix flip float fly fold follow get give grab greet grind
    hang headbutt hit hold hop hug hurl inflate jog juggle jump kick kiss kneel knit knock land laugh lay lead lean
    leap leave lick lie lift light listen load look make march massage mix mop move nod open pack paint parachute pass
    pat pay peel pet pick pitch play plug point pour praise pray press pull punch push put rake reach read ride ring
    rip rob roll row rub run sail salute say scrub search send serve set sew shake sharpen shave shoot shop shout
    shovel shred shrug sing sip sit skate ski skip slap sleep slice slide smell smile smoke snap sneeze snowboard spin
    spit split spray sprint squat squeeze stack stagger stand staple start steal steer step stir stop stretch strike
    strum surf sweep swim swing take talk tap tear tell text think throw tickle tie toss touch train trap trim turn
    type unbox unload use vacuum vault vomit wait walk wash watch water wave wax wear weave weld whip whisper whistle
    wink wipe work wrap wrestle write yawn yell zip
    """
)
_ACTIVITIES = _words(
    """
    acrobatics aerobics aikido archery athletics backflips backstroke ballet breakdance breaststroke burpees
    butterflystroke calisthenics capoeira cartwheels chinups cleanandjerk crossfit crunches deadlifts dips exercise
    exercises fitness frontcrawl frontflips gymnastics handstands hulahoop jiujitsu judo jumpingjacks karate kendo
    krav kungfu lunges parkour pilates planks polevault pullups pushups qigong shotput situps snatch somersaults sport
    sports squats stretches swordexercise taekwondo taichi tricking yoga zumba
    """
)
"""Done without an article, spaces and hyphens left out."""
_ACTS = _words(
    """
    armwave backflip backhand bodyslam burpee cartwheel catch chinup crunch curl dance deadlift dip dunk flicflac flip
    forehand frontflip handspring handstand headstand jump jumpingjack kick kickflip layup lunge massage moonwalk
    penalty pirouette pitch plank press pullup punch pushup roll run serve shot situp smash somersault spin split
    squat swing tackle throw vault volley walk
    """
)
"""Done with an article, spaces and hyphens left out."""
_PLAYED = _words(
    """
    accordion badminton bagpipes baseball basketball billiards cello chess clarinet cricket daf darts dhol didgeridoo
    dodgeball drums flute football golf guitar handball harmonica harp hockey hopscotch keyboard kickball lacrosse
    netball paintball piano poker polo pool recorder rugby saxophone sitar soccer softball squash tabla tennis
    trombone trumpet ukulele violin volleyball xylophone
    """
)
"""What one plays: instruments and games."""
# Words that end in -ing and say of nobody what he does.
_NOT_IN_ING = _words(
    """
    anything bring ceiling cling clothing darling duckling during earring evening everything fling king lightning
    morning nothing ping pudding ring sing sling something spring sting string swing thing wedding wing wring
    """
)
# These do where other words follow, as in "building sandcastles".
_ALONE_A_THING = frozenset({"building", "crossing", "landing", "setting", "warning"})
_OTHERS = _words(
    """
    adult animal baby band boy cat child children couple crowd dog dogs girl group kid man men people person somebody
    someone woman women
    """
)
"""Who does it, in labels of which that is the first word: a person does not."""
_NEGATIONS = frozenset({"no", "non", "none", "not", "without"})
"""In labels of what is not done."""
_ASIDE = re.compile(r"\([^()]*\)")
"""What stands in parentheses."""
# Verbs of one vowel and after it one of the consonants that English doubles, as "run".
_DOUBLED = re.compile(r"(?:[^aeiou]|qu)*[aeiou][bdglmnprtvz]")


def action_phrase(words: str) -> str | None:
    """What a person does, to follow "a person is"; None for labels of no known kind.

    It takes words with spaces between them, as :func:`label_words` makes of a label (not
    ``brush_hair``). Alternatives with a slash are joined by "or", and what stands in parentheses is left out. The first
    word loses its capital, and so do the others where all of more than three letters have one.
    """
    plain = _uncapitalised(_ASIDE.sub(" ", words))
    alternatives = [part.split() for part in plain.split("/")]
    if not all(alternatives) or any(character.isdigit() for character in plain):
        return None
    first = _phrase(alternatives[0])
    return (
        None if first is None else " or ".join([first, *(_phrase(part) or " ".join(part) for part in alternatives[1:])])
    )


def _phrase(words: list[str]) -> str | None:
    """What a person does, from the words of one alternative of a label; None for an unknown kind."""
    written, plain = " ".join(words), [word.lower().strip(".,") for word in words]
    if _NEGATIONS & {*plain} or plain[0] in _OTHERS or not all(plain):
        return None
    if "-".join(plain) in _ALONE_A_THING:
        return None
    # The whole label, its last two words and its last one, each written as one word.
    whole, *endings = ("".join(plain[start:]).replace("-", "") for start in (0, -2, -1))
    with_article = f"doing {'an' if written[0].lower() in 'aeiou' else 'a'} {written}"
    if whole in _ACTIVITIES or plain[-1] in ("ups", "downs"):
        return f"doing {written}"
    if whole in _ACTS - _VERBS:
        return with_article
    if _is_gerund(plain[0]) or (len(plain) > 1 and _is_gerund(plain[1])):  # swing dancing
        return written
    if plain[0] in _VERBS:
        verbs = 2 if plain[:2] == ["blow", "dry"] else 1
        return " ".join([*words[: verbs - 1], gerund(plain[verbs - 1]), *words[verbs:]])
    if not _ACTIVITIES.isdisjoint(endings):
        return f"doing {written}"
    if plain[-1] in _PLAYED:
        return f"playing {written}"
    if _is_gerund(plain[-1]):
        return written
    return None if _ACTS.isdisjoint(endings) else with_article


def gerund(verb: str) -> str:
    """The -ing form of a verb's base form: brushing, riding, running, lying.

    A final consonant is doubled in verbs of one syllable only: "begin" would give "begining", so such verbs cannot be
    added to the list.
    """
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return f"{verb[:-1]}ing"
    return f"{verb}{verb[-1] if _DOUBLED.fullmatch(verb) else ''}ing"


def _is_gerund(word: str) -> bool:
    """Whether a word in lower case looks like a verb in -ing: five letters or more, none that is known as another."""
    return len(word) > 4 and word.endswith("ing") and word not in _NOT_IN_ING


def _uncapitalised(words: str) -> str:
    """The words in lower case where they are capitalised as in a title or a sentence; acronyms and names stay."""
    parts = words.split()
    titled = all(part[:1].isupper() for part in parts if len(part) > 3)
    return " ".join(
        part.lower() if part[1:].islower() and (titled or number == 0) else part for number, part in enumerate(parts)
    )


_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
# Zero-width joiners are format characters too, but Persian and the Indic scripts are written with them.
_JOINERS = "\u200c\u200d"
# Between the words of a label that is one word: at a capital in CamelCase, at underscores and at dots between letters.
_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD_MARKS = re.compile(r"_+|(?<=[^\W\d])\.(?=[^\W\d])")


class NoCaption(Reject):
    """A clip has too few sentences: ``no_caption``. ``sentences`` are those that captioners wrote, by position."""

    def __init__(self, detail: str, *, sentences: Mapping[int, Sentences] | None = None) -> None:
        super().__init__("no_caption", detail)
        self.sentences = sentences or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Reject, (self.reason, self.detail)


@dataclass(frozen=True, kw_only=True)
class WriteCaptions(Stage):
    """Collects, cleans and limits a clip's captions.

    They come in this order: the row's captions (origin ``row``); its label in every template (origin ``label`` for the
    bare ``{}``, else ``template:`` and the template); what each captioner writes (origin: its name). Captioners run
    only while there are fewer than ``most`` sentences. Of sentences that differ only in case or in blanks and ``. ! ?``
    at the end the first stays; one of which :func:`clean` leaves nothing is left out. Both are done before sentences
    are counted.

    Args:
        templates: sentences with one ``{}`` each, which stands for the label's words (:func:`label_words`); with none
            labels give no sentence.
        label_grammar: ``english`` puts what a person does into the templates, as "a person is brushing hair" from
            ``brush_hair`` (:func:`action_phrase`); the bare ``{}`` has the label's words, and
            is the only template for labels of no known activity. ``none`` puts the label's words into all templates.
        captioners: engines that describe the clip, asked in this order.
        longest_characters: most characters (Unicode code points) of one sentence; see :func:`clean`.
        most, fewest: how many sentences a clip keeps at most, and needs at least.

    The numbers are our choice: a sentence of 300 characters is longer than the text encoders read, and eight sentences
    are the row's and label's own and some of a captioner's.

    Rejects:
        ``no_caption``: fewer than ``fewest`` sentences.

    Raises:
        ValueError: a template has not exactly one ``{}``, or a number is out of its range.
    """

    name: ClassVar[str] = "caption"
    takes: ClassVar[type] = SkeletonClip
    gives: ClassVar[type] = CaptionedClip

    templates: tuple[str, ...] = ("{}", "a person is {}", "a video of a person {}")
    label_grammar: Literal["none", "english"] = "none"
    captioners: tuple[Captioner, ...] = ()
    longest_characters: int = 300
    most: int = 8
    fewest: int = 1

    def __post_init__(self) -> None:
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"caption: template {template!r} needs exactly one {{}} where the label goes")
        if self.longest_characters < 1 or not 0 <= self.fewest <= self.most:
            raise ValueError(
                f"caption: needs longest_characters >= 1 and 0 <= fewest <= most, got {self.longest_characters}, "
                f"{self.fewest} and {self.most}"
            )

    def __call__(self, item: SkeletonClip) -> Iterator[CaptionedClip]:
        written: dict[int, Sentences] = {}
        try:
            captions = self._collected(self._sentences(item, written))
        except NoCaption as reject:
            raise NoCaption(reject.detail, sentences=written) from None
        yield item.extend(CaptionedClip, captions=captions, sentences=written)

    def check_row(self, row: Row) -> None:
        """Reject a row for which no clip can have enough sentences, before it is downloaded.

        Raises:
            Reject: ``no_caption``: the row has too few sentences, and the stage has no captioners.
        """
        if not self.captioners:
            self.of_row(row)

    def of_row(self, row: Row) -> tuple[Caption, ...]:
        """The captions of every clip of a row, as far as they come from the row: all where the stage has no captioners.

        Raises:
            Reject: ``no_caption``: these are too few.
        """
        return self._collected(self._of_row(row))

    def _collected(self, sentences: Iterator[tuple[str, str]]) -> tuple[Caption, ...]:
        """The captions that texts, each with its origin, give; rejects ``no_caption``."""
        captions: dict[str, Caption] = {}
        for text, origin in sentences:
            sentence = clean(text, longest_characters=self.longest_characters)
            if sentence:
                captions.setdefault(sentence.casefold().rstrip(" .!?"), Caption(sentence, origin))
            # Checked before the next sentence is requested, so that no captioner runs for a clip that has enough.
            if len(captions) >= self.most:
                break
        if len(captions) < self.fewest:
            raise NoCaption(f"{len(captions)} usable sentences, needs {self.fewest}: give the row a caption or a label")
        return tuple(captions.values())[: self.most]

    def _sentences(self, item: SkeletonClip, written: dict[int, Sentences]) -> Iterator[tuple[str, str]]:
        """Texts of the clip's row and of captioners, each with its origin. Where more are asked for, a captioner runs,
        unless the clip has what it would write; that is entered in ``written``, by the captioner's position."""
        yield from self._of_row(item.row)
        for number, captioner in enumerate(self.captioners):
            inputs, known = inputs_of(captioner, item), item.sentences.get(number)
            if known is None or known.inputs != inputs:
                known = Sentences(inputs, tuple(captioner.write(item)))
            written[number] = known
            for sentence in known.texts:
                yield sentence, captioner.name

    def _of_row(self, row: Row) -> Iterator[tuple[str, str]]:
        """Texts of the row and its label, each with its origin."""
        for caption in row.captions:
            yield caption, "row"
        words = clean(label_words(row.label or ""), longest_characters=self.longest_characters)
        phrase = action_phrase(words) if self.label_grammar == "english" else words
        for template in self.templates if words else ():
            if template == "{}":
                yield words, "label"
            elif phrase is not None:
                yield template.replace("{}", phrase), f"template:{template}"


@dataclass(frozen=True, kw_only=True)
class Describe(Stage):
    """The sentences of a further captioner for each clip of which the dataset has a sample; others are passed over.

    Sentences are cleaned (:func:`clean`); of those that differ only in case or in blanks and ``. ! ?`` at the end the
    first stays.

    Args:
        captioner: the engine that describes the clip.
        longest_characters: as for :class:`WriteCaptions`.

    Raises:
        ValueError: ``longest_characters`` is below 1.
    """

    name: ClassVar[str] = "describe"
    takes: ClassVar[type] = SkeletonClip
    gives: ClassVar[type] = Addition

    captioner: Captioner
    longest_characters: int = 300

    def __post_init__(self) -> None:
        if self.longest_characters < 1:
            raise ValueError(f"describe: needs longest_characters >= 1, got {self.longest_characters}")

    def __call__(self, item: SkeletonClip) -> Iterator[Addition]:
        if isinstance(item.row, SampledRow) and item.clip_id in item.row.keys:
            sentences: dict[str, str] = {}
            for text in self.captioner.write(item):
                if sentence := clean(text, longest_characters=self.longest_characters):
                    sentences.setdefault(sentence.casefold().rstrip(" .!?"), sentence)
            yield Addition(
                key=item.clip_id,
                source_id=item.video.source_id,
                clip=item.span,
                captions=tuple(sentences.values()),
            )


def inputs_of(captioner: Captioner, clip: SkeletonClip) -> str:
    """SHA-256 (64 hex digits) over what of a clip, beside its frames and their times, shapes a captioner's sentences:
    what the captioner says (:class:`posecap.interfaces.SelectiveCaptioner`), else the row's text, the people and their
    joints."""
    if isinstance(captioner, SelectiveCaptioner):
        return digest(list(captioner.inputs(clip)))
    row, tracks = clip.row, clip.tracks
    found = (tracks.boxes_MT4, tracks.scores_MT, tracks.joints_MTJ3, clip.joints_MTJ3)
    arrays = [one for one in found if one is not None]
    return digest(
        [
            [row.row_id, row.uri, row.label, list(row.captions), row.split, row.license, row.source],
            [[list(one.shape), hashlib.sha256(one.tobytes()).hexdigest()] for one in arrays],
            [tracks.layout, clip.layout, clip.detector, clip.tracker, clip.pose_model],
            [asdict(clip.quality), dict(clip.people_choice), dict(clip.smoothing)],
        ]
    )


def clean(text: str, *, longest_characters: int) -> str:
    """One line of plain text: Unicode NFKC, no control or other invisible characters, no URLs, single spaces.

    Text longer than ``longest_characters`` ends at the last whole word that fits, or within its first word where not
    even that fits. Text without a letter or a digit becomes the empty string. Cleaning twice changes nothing.
    """
    normal = text
    if not (text.isascii() and text.isprintable()):  # in which nothing is to be changed
        normal = unicodedata.normalize("NFKC", "".join(_visible(character) for character in text))
    line = " ".join(_URL.sub(" ", normal).split())
    if len(line) > longest_characters:
        # One character more tells whether the last word is whole.
        cut, space, _ = line[: longest_characters + 1].rpartition(" ")
        line = cut if space else line[:longest_characters]
    return line if any(character.isalnum() for character in line) else ""


def label_words(label: str) -> str:
    """A class label as words.

    ``clean_and_jerk`` becomes clean and jerk, ``Cook.Cutbread`` cook cutbread, ``WatchTV`` watch TV. A label that
    already has spaces keeps its capitals.
    """
    if len(label.split()) != 1:
        return " ".join(_WORD_MARKS.sub(" ", label).split())
    words = _WORD_MARKS.sub(" ", _WORD_STARTS.sub(" ", label)).split()
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def _visible(character: str) -> str:
    """The character; a space for a control character or a line break; nothing for format and unassigned ones."""
    kind = unicodedata.category(character)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    return "" if kind.startswith("C") and character not in _JOINERS else character
