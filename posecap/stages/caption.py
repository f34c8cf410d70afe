"""Captions of a clip: the row's captions, its label as text, and sentences of captioners."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from posecap.interfaces import Captioner
from posecap.label_phrases import action_phrase
from posecap.stage import Reject, Stage
from posecap.types import Caption, CaptionedClip, Row, SkeletonClip

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
# Zero-width joiners are format characters too, but Persian and the Indic scripts are written with them.
_JOINERS = "\u200c\u200d"
_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD_MARKS = re.compile(r"_+|(?<=[^\W\d])\.(?=[^\W\d])")


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
            ``brush_hair`` (:func:`posecap.label_phrases.action_phrase`); the bare ``{}`` has the label's words, and
            is the only template for labels of no known activity. ``none`` puts the label's words into all templates.
        captioners: engines that describe the clip, asked in this order.
        longest_characters: most characters (Unicode code points) of one sentence; see :func:`clean`.
        most, fewest: how many sentences a clip keeps at most, and needs at least.

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
        yield item.extend(CaptionedClip, captions=self._collected(self._sentences(item)))

    def check_row(self, row: Row) -> None:
        """Raises ``no_caption`` where the row has too few sentences and the stage has no captioners."""
        if not self.captioners:
            self._collected(self._of_row(row))

    def _collected(self, sentences: Iterator[tuple[str, str]]) -> tuple[Caption, ...]:
        captions: dict[str, Caption] = {}
        for text, origin in sentences:
            sentence = clean(text, longest_characters=self.longest_characters)
            if sentence:
                captions.setdefault(sentence.casefold().rstrip(" .!?"), Caption(sentence, origin))
            # Checked before the next sentence is requested, so that no captioner runs for a clip that has enough.
            if len(captions) >= self.most:
                break
        if len(captions) < self.fewest:
            raise Reject(
                "no_caption",
                f"{len(captions)} usable sentences, needs {self.fewest}: give the row a caption or a label",
            )
        return tuple(captions.values())[: self.most]

    def _sentences(self, item: SkeletonClip) -> Iterator[tuple[str, str]]:
        yield from self._of_row(item.row)
        for captioner in self.captioners:
            for sentence in captioner.write(item):
                yield sentence, captioner.name

    def _of_row(self, row: Row) -> Iterator[tuple[str, str]]:
        for caption in row.captions:
            yield caption, "row"
        words = clean(label_words(row.label or ""), longest_characters=self.longest_characters)
        phrase = action_phrase(words) if self.label_grammar == "english" else words
        for template in self.templates if words else ():
            if template == "{}":
                yield words, "label"
            elif phrase is not None:
                yield template.replace("{}", phrase), f"template:{template}"


def clean(text: str, *, longest_characters: int) -> str:
    """One line of plain text: Unicode NFKC, no control or other invisible characters, no URLs, single spaces.

    Text longer than ``longest_characters`` ends at the last whole word that fits, or within its first word where not
    even that fits. Text without a letter or a digit becomes the empty string. Cleaning twice changes nothing.
    """
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
