"""Section: which classes are taken for which others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmor_train.metrics.accuracy import accuracy
from tmor_train.report.gathered import Gathered, Kept
from tmor_train.report.html import Section, figure, folded, paragraph
from tmor_train.report.svg import drawn, label
from tmor_train.results import BadResult, read_scores

_MOST_FIGURES, _MOST_NUMBERS = 12, 20


def section(gathered: Gathered) -> Section | None:
    """A confusion matrix for each result of clips, the best of each benchmark first; the rest is only counted."""
    clips = sorted(gathered.distinct(), key=lambda one: -one.result.figures[one.result.headline])
    parts, shown, left = [], 0, 0
    for one in clips:
        if (confusion := _confusion(one)) is None:
            continue
        if shown == _MOST_FIGURES:
            left += 1
            continue
        picture = _picture(one, confusion, f"confusion-{shown}")
        title = f"{one.result.benchmark} {one.result.protocol}, {one.words}"
        parts.append(folded(title, figure(picture, _worst(one, confusion)), state="open" if not shown else ""))
        shown += 1
    if not parts:
        return None
    if left:
        parts.append(paragraph(f"{left} more with lower figures are left out."))
    return Section("confusion", "Confusion of classes", "".join(parts))


def _confusion(kept: Kept) -> NDArray[np.int64] | None:
    """Clips by true and predicted class; None where the result has no scores of clips."""
    try:
        scores = read_scores(kept.folder)
        found = accuracy(scores.scores_NK, scores.label_N).confusion_KK
    except (BadResult, ValueError):
        return None
    return found if len(found) == len(kept.result.classes) else None


def _picture(kept: Kept, confusion_KK: NDArray[np.int64], name: str) -> str:
    classes = [label(words) for words in kept.result.classes]
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(1, keepdims=True), 1)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        image = axes.imshow(share_KK, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
        if len(classes) <= _MOST_NUMBERS:
            for (true, told), count in np.ndenumerate(confusion_KK):
                if count:
                    ink = "#ffffff" if share_KK[true, told] > 0.5 else "#1b1f24"
                    axes.text(told, true, str(count), ha="center", va="center", color=ink, fontsize=7)

    side = 3.0 + 0.22 * len(classes)
    return drawn(draw, width=side + 1.0, height=side, name=name)


def _worst(kept: Kept, confusion_KK: NDArray[np.int64]) -> str:
    """The pair that is taken for each other most often, in words."""
    wrong = confusion_KK - np.diag(confusion_KK.diagonal())
    if not wrong.any():
        return f"{kept.name}: every clip is told right"
    true, told = divmod(int(wrong.argmax()), len(wrong))
    classes = kept.result.classes
    return f"{kept.name}: most often {classes[true]} is taken for {classes[told]} ({wrong[true, told]} clips)"


__all__ = ["section"]
