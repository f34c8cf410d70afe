"""The paper's objective as it is printed: plain loops over plain numbers, every reading spelled out once."""

import math
from dataclasses import dataclass

from tmor_train.objective_config import ObjectiveConfig


@dataclass(frozen=True)
class Clip:
    """A candidate, or an anchor's own fresh candidate: its vectors as lists, who it is, what it has."""

    clip: int
    label: int
    text_id: int
    motion: list[float]
    video: list[float] | None
    text: list[float] | None


def sim(x: list[float], y: list[float], temperature: float) -> float:
    """Eq. 4 for projected vectors."""
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(a * a for a in x)) / math.sqrt(sum(b * b for b in y)) / temperature


def sets(
    kind: str, own: int, pool: list[Clip], config: ObjectiveConfig, clustered: bool
) -> tuple[list[int], list[int]]:
    """Places of P and N for the anchor whose own candidate is ``pool[own]``."""
    anchor = pool[own]
    positives, negatives = [own], []
    for place, other in enumerate(pool):
        if place == own or (kind == "mv" and other.video is None) or (kind == "mt" and other.text is None):
            continue
        if other.clip == anchor.clip:
            if kind == "mm" and config.own_copies == "positive":
                positives.append(place)
            continue
        mate = clustered and anchor.label >= 0 and other.label == anchor.label
        left_out = clustered and config.noise == "drop" and other.label < 0
        reading = {"mm": "cluster", "mv": config.mv_positives, "mt": config.mt_positives}[kind]
        if mate and reading == "cluster":
            positives.append(place)
        elif not left_out:
            other_cluster, other_text = not mate, other.text_id != anchor.text_id
            apart = other_cluster
            if kind == "mt":
                apart = {
                    "cluster": other_cluster,
                    "text": other_text,
                    "both": other_cluster and other_text,
                    "all": True,
                }[config.mt_negatives]
            if apart:
                negatives.append(place)
    return positives, negatives


def ratio(positives: list[float], negatives: list[float], reduction: str) -> float:
    """Eq. 1 for one anchor, from its similarities."""
    align, disc = sum(map(math.exp, positives)), sum(map(math.exp, negatives))
    if reduction == "outside":
        return -sum(math.log(math.exp(s) / (align + disc)) for s in positives) / len(positives)
    if reduction == "mean_inside":
        align /= len(positives)
    return -math.log(align / (align + disc))


def loss(
    kind: str, anchors: list[list[float]], pool: list[Clip], config: ObjectiveConfig, *, clustered: bool
) -> tuple[float, int]:
    """L_mm, L_mv or L_mt and of how many anchors it is the mean; anchor i's own candidate is ``pool[i]``."""
    temperature = {"mm": config.temperature_mm, "mv": config.temperature_mv, "mt": config.temperature_mt}[kind]
    vector = {"mm": lambda c: c.motion, "mv": lambda c: c.video, "mt": lambda c: c.text}[kind]
    live = [*anchors, *(clip.motion for clip in pool[len(anchors) :])]
    for guided in (clustered, False):
        losses = []
        for own, anchor in enumerate(anchors):
            noise = guided and config.noise == "drop" and pool[own].label < 0
            positives, negatives = sets(kind, own, pool, config, guided)
            if vector(pool[own]) is None or noise or not negatives:
                continue
            there = [[sim(anchor, vector(pool[k]), temperature) for k in who] for who in (positives, negatives)]
            value = ratio(*there, config.positive_reduction)
            if config.symmetric == "on" and kind != "mm":
                back = [[sim(vector(pool[own]), live[k], temperature) for k in who] for who in (positives, negatives)]
                value = (value + ratio(*back, config.positive_reduction)) / 2
            losses.append(value)
        if losses:
            return sum(losses) / len(losses), len(losses)
    return 0.0, 0
