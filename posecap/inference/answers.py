"""Sentences out of what a language model answers."""

from __future__ import annotations

import re
from typing import Literal

End = Literal["of itself", "cut off"]

_BREAK = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|(?<=[。！？])\s*(?=\S)")
_ENDED = re.compile(r"[.!?。！？][\"'”’)]*$")
_REASONING = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_LINE_MARKS = re.compile(r"^\s*(?:[-*#>•]+|\d+[.)])\s+|[*_`]{2,}|`")


def sentences_of(answer: str, *, most: int, prompt: str, end: End) -> list[str]:
    """The first sentences of a model's answer, each on one line, without the question, reasoning or list marks.

    The last sentence of an answer that was cut off is left out where it is unfinished.
    """
    lines = [_LINE_MARKS.sub("", line).strip() for line in _REASONING.sub("", answer).splitlines()]
    text = " ".join(line for line in lines if line and not line.endswith(":"))
    text = text.removeprefix(" ".join(prompt.split())).strip()
    found = [part.strip(" \"'“”") for part in _BREAK.split(text)]
    if end == "cut off" and not _ENDED.search(text):
        found.pop()
    return [sentence for sentence in found if any(c.isalnum() for c in sentence)][:most]
