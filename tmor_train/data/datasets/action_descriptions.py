"""Sentences that say what the body does in each action of the sets, and what head, arms, hips and legs do in it, for
training with text and for prompts.

A text encoder places "squatting with a barbell" and "squatting with both arms stretched out" apart, although the body
does the same; with these sentences, both have the same text. After the action descriptions of GAP (Xiang et al.,
"Generative Action Description Prompts for Skeleton-based Action Recognition", ICCV 2023). Actions that several sets
have in common have one sentence.

Of the parts there is one sentence for each of :data:`posecap.joints.BODY_PARTS`, as PURLS (Zhu et al., CVPR 2024) and
STAR (Chen et al., ACM MM 2024) ask a language model for. These are our own, written without a look at any clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_NAMES: Mapping[str, tuple[str, ...]] = {
    "standing, the right arm sweeps across the chest to the left": ("swiping to the left with the right arm",),
    "standing, the right arm sweeps across the chest to the right": ("swiping to the right with the right arm",),
    "standing, the right hand is raised beside the head and waves from side to side": ("waving the right hand",),
    "standing, both hands meet in front of the chest again and again": (
        "clapping both hands in front",
        "clapping hands",
    ),
    "the right arm is drawn back over the shoulder and throws forward": ("throwing with the right arm",),
    "standing, both arms fold over the chest and stay there": ("crossing arms on the chest",),
    "both hands rise from the chest to above the head and push forward": ("shooting a basketball",),
    "standing, the right hand moves along two crossing lines in front of the body": (
        "drawing an x with the right hand",
        "drawing an x",
    ),
    "standing, the right hand moves round in a circle in front of the body": (
        "drawing a circle clockwise with the right hand",
        "drawing a circle counter-clockwise with the right hand",
        "drawing a circle",
    ),
    "standing, the right hand moves along a triangle in front of the body": ("drawing a triangle",),
    "a step forward with the body bent low, one straight arm swings back and then forward below the hip": (
        "bowling with the right hand",
        "bowling",
    ),
    "standing, both fists punch forward from the chest in turn": ("boxing to the front",),
    "both hands together swing sideways at the height of the chest, the trunk turns": (
        "swinging a baseball bat from the right",
        "swinging a baseball bat",
    ),
    "one arm swings sideways from behind to the front of the body, the trunk turns": (
        "hitting a tennis forehand with the right hand",
        "swinging a tennis racket",
        "hitting a tennis forehand",
    ),
    "standing, both elbows bend and bring the hands up to the shoulders": ("curling both arms",),
    "one arm goes up over the head and strikes down to the front": ("serving in tennis",),
    "standing, both hands push forward from the chest until the arms are straight": ("pushing with both hands",),
    "standing, one raised hand knocks a few times in front": ("knocking on a door with the right hand",),
    "one hand reaches out to the front and comes back to the body": (
        "catching an object with the right hand",
        "catching with a hand",
    ),
    "bending down to the floor with one hand, then rising and throwing over the shoulder": (
        "picking up and throwing with the right hand",
        "picking up and throwing",
    ),
    "the knees lift in turn and the arms swing, running on the spot": (
        "jogging in place",
        "jogging",
    ),
    "the feet lift in turn, walking on the spot": ("walking in place",),
    "from sitting with bent knees the trunk rises and the legs become straight": (
        "standing up from sitting",
        "standing up",
    ),
    "from standing the knees bend and the hips go down to a seat": (
        "sitting down from standing",
        "sitting down",
    ),
    "a long step forward, the front knee bends and the trunk goes down": ("lunging forward with the left foot",),
    "the knees bend deeply, the hips go down and then up again, the trunk upright": (
        "squatting with both arms stretched out",
        "squatting with a barbell",
    ),
    "standing, one raised arm waves beside the head": ("waving an arm high",),
    "standing, one arm waves to the side in front of the body": ("waving an arm sideways",),
    "standing, one arm goes up and strikes down in front again and again": ("hammering",),
    "standing, one fist punches forward from the chest": ("punching forward",),
    "the arm is drawn back over the shoulder and throws forward": (
        "throwing high",
        "throwing",
    ),
    "standing, the right hand moves down and up again to the side in front of the body": ("drawing a tick",),
    "standing, both arms go up over the head and to the sides again and again": (
        "waving both hands",
        "waving hands",
    ),
    "standing, the fists punch to the side in turn": ("boxing to the side",),
    "standing, the trunk bends forward and down and rises again": ("bending down",),
    "standing on one leg, the other leg kicks forward": ("kicking forward",),
    "standing on one leg, the other leg kicks to the side": ("kicking to the side",),
    "the trunk bent forward, both hands together swing from one side down past the legs and up to the other side": (
        "swinging a golf club",
    ),
    "walking towards somebody with both arms hanging": ("one person approaching another",),
    "walking away from somebody with both arms hanging": ("one person departing from another",),
    "standing on one leg, the other leg kicks at somebody in front": ("one person kicking another",),
    "standing, both hands push somebody in front": ("one person pushing another",),
    "standing, one hand reaches out to somebody in front and shakes": ("two people shaking hands",),
    "both arms close around somebody in front": ("two people hugging",),
    "standing, one hand reaches out to somebody in front": ("one person handing an object to another",),
    "standing, one fist punches at somebody in front": ("one person punching another",),
    "walking forward, the legs step in turn and the arms swing": ("walking",),
    "bending down to the floor with one hand, then rising": ("picking something up",),
    "walking with both hands held in front of the belly": ("carrying something",),
    "standing, one hand pushes forward from the chest until the arm is straight": ("pushing",),
    "standing, one hand reaches out to the front and pulls back to the body": ("pulling",),
    "one knee lifts, a long step forward, the arm is drawn back over the shoulder and throws forward": (
        "pitching a baseball",
    ),
    "lying on the back, both hands push up from the chest until the arms are straight and come down again": (
        "bench pressing a barbell",
    ),
    "from a deep squat both hands rise from the floor to the shoulders and then above the head": (
        "lifting a barbell, clean and jerk",
    ),
    "jumping on the spot with both feet, the hands turning beside the hips": ("jumping rope",),
    "jumping, both arms go up over the head and to the sides again and again, the legs spread": (
        "doing jumping jacks",
    ),
    "hanging with both arms straight up over the head, the elbows bend and pull the body up and down": (
        "doing pull-ups",
    ),
    "lying face down, both arms bend and push the straight body up and down": ("doing push-ups",),
    "lying on the back with bent knees, the trunk rises to sitting and goes down again": ("doing sit-ups",),
    "one hand moves up and down in front of the belly, the other arm bent to the side and still": (
        "strumming a guitar",
    ),
}
"""By what the body does, the captions of the actions of all sets in which it does that."""

MOVEMENTS: Mapping[str, str] = {name: movement for movement, names in _NAMES.items() for name in names}
"""By caption of a set, the sentence that says what the body does."""

_PARAPHRASES: Mapping[str, tuple[str, str, str]] = {
    "pitching a baseball": (
        "one leg is lifted and put far forward while one arm goes back and whips over the shoulder to the front",
        "standing sideways, a knee comes up, the body falls into a wide step and one hand is flung forward from behind",
        "a high knee, a wide step, and an arm that swings from behind over the shoulder down to the front",
    ),
    "swinging a baseball bat": (
        "standing sideways with both hands together at the shoulder, the arms sweep around the body as the hips turn",
        "both arms swing level from one side of the chest to the other while the body rotates",
        "two hands held together move quickly across the front at chest height, the shoulders turn with them",
    ),
    "bench pressing a barbell": (
        "on the back, both arms stretch upwards over the chest, bend and stretch again",
        "the body lies still and flat, the elbows bend down to the sides and straighten upwards together",
        "lying face up, two hands move up and down above the chest",
    ),
    "bowling": (
        "walking forward and bending down, one arm swings like a pendulum from behind to the front near the ground",
        "a deep lunge, the trunk leans over and one straight arm goes from the back to the front at the knee",
        "the front knee bends and one hand swings forward close to the floor, the other leg stays behind",
    ),
    "lifting a barbell, clean and jerk": (
        "squatting with the hands at the floor, standing up with both hands at the shoulders, then arms straight above",
        "both arms pull up from the ground to the neck and then push up over the head while the legs straighten",
        "the body rises from crouching, and two hands go from the feet to the shoulders to over the head",
    ),
    "swinging a golf club": (
        "leaning forward, both arms lift to one shoulder and swing down past the feet up to the other shoulder",
        "both hands together draw a large arc from behind one side down and up to the other side, the hips turn",
        "the feet stay in place, the bent body twists and the joined hands swing low in front of the legs",
    ),
    "jumping rope": (
        "small jumps with the feet together while the hands at the hips make small circles",
        "the whole body hops up and down again and again, the elbows stay at the sides",
        "both feet leave the ground together many times, the wrists turn beside the waist",
    ),
    "doing jumping jacks": (
        "jumping with legs apart and arms up, then with legs together and arms down, many times",
        "arms and legs open to the sides and close again with each jump",
        "the hands meet over the head as the feet jump apart, and come down as the feet come together",
    ),
    "doing pull-ups": (
        "the hands stay high above while the body is lifted up to them and lowered again",
        "with arms stretched overhead the whole body hangs, rises until the elbows are bent, and sinks",
        "the shoulders move up to the raised hands and down again, the legs hang",
    ),
    "doing push-ups": (
        "the body is stretched out over the floor on hands and toes, the elbows bend and straighten",
        "face down and straight from head to heel, the chest goes down to the ground and up again",
        "lying on the front, both arms press the shoulders up and let them sink, the legs are straight behind",
    ),
    "doing sit-ups": (
        "on the floor with the knees up, the shoulders lift towards the knees and lie down again",
        "the upper body rolls up from lying to sitting and back, the feet stay on the ground",
        "lying face up with legs bent, the head and chest come up to the thighs and go back",
    ),
    "squatting with a barbell": (
        "standing with the hands at the shoulders, the legs bend until the thighs are level and then straighten",
        "the hips sink down between the bent knees and rise again, the back stays straight",
        "from standing, the body is lowered by bending both knees, and stands up again",
    ),
    "strumming a guitar": (
        "one forearm moves quickly up and down before the waist, the other hand is held out to the side",
        "both elbows are bent, one hand brushes again and again in front of the stomach, the body is almost still",
        "sitting or standing quietly, one wrist swings before the belly while the other hand stays beside the chest",
    ),
    "hitting a tennis forehand": (
        "one hand goes back at the side and swings across the front of the body at the height of the hips",
        "the shoulders turn and one stretched arm sweeps from the side to the opposite shoulder",
        "stepping in, one arm moves in a flat arc from behind to the front",
    ),
    "serving in tennis": (
        "one hand reaches up, the other arm bends behind the head and then stretches high and comes down in front",
        "both arms rise, the back arches, and one arm strikes over the head",
        "the body stretches upwards with one arm above the head, which swings down to the front",
    ),
}

PARAPHRASES: Mapping[str, tuple[str, str, str]] = {
    MOVEMENTS[name]: sentences for name, sentences in _PARAPHRASES.items()
}
"""By movement of a class of Penn Action, three other sentences for it, written without a look at any clip."""


class PartSentences(NamedTuple):
    """One sentence for each of :data:`posecap.joints.BODY_PARTS`, in that order."""

    head: str
    arms: str
    hips: str
    legs: str


_HEAD, _HIPS, _LEGS = "the head is upright and still", "the hips are upright and still", "both legs stand straight"
_ARMS = "both arms hang beside the body"
_STEPS = "the legs step in turn, knee after knee"
_ONE_LEG = "one leg stands, the other leg kicks forward"


def _standing(arms: str = _ARMS, *, head: str = _HEAD, hips: str = _HIPS, legs: str = _LEGS) -> PartSentences:
    """Of somebody who stands still but for the parts that are named."""
    return PartSentences(head=head, arms=arms, hips=hips, legs=legs)


_OF_CAPTION: Mapping[str, PartSentences] = {
    "swiping to the left with the right arm": _standing("the right arm sweeps across the chest to the left"),
    "swiping to the right with the right arm": _standing("the right arm sweeps across the chest to the right"),
    "waving the right hand": _standing("the right hand is raised beside the head and waves from side to side"),
    "clapping hands": _standing("both hands meet in front of the chest again and again"),
    "throwing with the right arm": _standing(
        "the right arm is drawn back over the shoulder and throws forward", hips="the hips turn to the front"
    ),
    "crossing arms on the chest": _standing("both arms fold over the chest and stay there"),
    "shooting a basketball": _standing(
        "both hands rise from the chest to above the head and push forward", head="the head looks up"
    ),
    "drawing an x": _standing("the right hand moves along two crossing lines in front of the body"),
    "drawing a circle": _standing("the right hand moves round in a circle in front of the body"),
    "drawing a triangle": _standing("the right hand moves along a triangle in front of the body"),
    "bowling": PartSentences(
        head="the head bends low to the front",
        arms="one straight arm swings back and then forward below the hip",
        hips="the hips bend and go down low",
        legs="one leg steps forward and its knee bends deeply, the other leg stretches back",
    ),
    "boxing to the front": _standing("both fists punch forward from the chest in turn"),
    "swinging a baseball bat": _standing(
        "both hands together swing sideways at the height of the chest",
        hips="the hips turn quickly to the side",
        legs="both legs stand apart and one leg steps to the side",
    ),
    "hitting a tennis forehand": _standing(
        "one arm swings sideways from behind to the front of the body",
        hips="the hips turn from the side to the front",
        legs="both legs stand apart with bent knees",
    ),
    "curling both arms": _standing("both elbows bend and bring the hands up to the shoulders"),
    "serving in tennis": _standing(
        "one arm goes up over the head and strikes down to the front",
        head="the head looks up",
        hips="the hips stretch up and bend forward",
        legs="the knees bend and both legs stretch up from the ground",
    ),
    "pushing with both hands": _standing("both hands push forward from the chest until the arms are straight"),
    "knocking on a door with the right hand": _standing("one raised hand knocks a few times in front"),
    "catching with a hand": _standing("one hand reaches out to the front and comes back to the body"),
    "picking up and throwing": PartSentences(
        head="the head goes down to the floor and up again",
        arms="one hand reaches down to the floor, then throws over the shoulder",
        hips="the hips bend forward and rise again",
        legs="both knees bend and become straight again",
    ),
    "jogging": _standing(
        "both arms swing with bent elbows", hips="the hips go up and down a little", legs="the knees lift in turn"
    ),
    "walking in place": _standing("both arms swing a little", legs="the feet lift in turn on the spot"),
    "standing up": PartSentences(
        head="the head leans forward and rises",
        arms="both hands lie on the knees and then hang down",
        hips="the hips rise from a seat",
        legs="the bent knees become straight",
    ),
    "sitting down": PartSentences(
        head="the head leans forward and goes down",
        arms="both arms hang down and then lie on the knees",
        hips="the hips go down to a seat",
        legs="the straight knees bend",
    ),
    "lunging forward with the left foot": _standing(
        hips="the hips go down and forward", legs="one leg takes a long step forward and its knee bends"
    ),
    "squatting with a barbell": PartSentences(
        head="the head goes down and up again",
        arms="both arms are held still",
        hips="the hips go down deeply and then up again",
        legs="both knees bend deeply and become straight again",
    ),
    "waving an arm high": _standing("one raised arm waves beside the head"),
    "waving an arm sideways": _standing("one arm waves to the side in front of the body"),
    "hammering": _standing("one arm goes up and strikes down in front again and again"),
    "punching forward": _standing("one fist punches forward from the chest"),
    "throwing": _standing(
        "the arm is drawn back over the shoulder and throws forward", hips="the hips turn to the front"
    ),
    "drawing a tick": _standing("the right hand moves down and up again to the side in front of the body"),
    "waving hands": _standing("both arms go up over the head and to the sides again and again"),
    "boxing to the side": _standing("the fists punch to the side in turn", hips="the hips turn to the side"),
    "bending down": PartSentences(
        head="the head goes forward and down and rises again",
        arms="both arms hang down to the floor",
        hips="the hips bend forward and rise again",
        legs=_LEGS,
    ),
    "kicking forward": _standing(legs=_ONE_LEG),
    "kicking to the side": _standing(legs="one leg stands, the other leg kicks to the side"),
    "swinging a golf club": PartSentences(
        head="the head is bent forward and looks down",
        arms="both hands together swing from one side down past the legs and up to the other side",
        hips="the hips are bent forward and turn",
        legs="both legs stand apart with bent knees",
    ),
    "one person approaching another": _standing(hips="the hips move forward towards somebody", legs=_STEPS),
    "one person departing from another": _standing(hips="the hips move away from somebody", legs=_STEPS),
    "one person kicking another": _standing(legs="one leg stands, the other leg kicks at somebody in front"),
    "one person pushing another": _standing("both hands push somebody in front"),
    "two people shaking hands": _standing("one hand reaches out to somebody in front and shakes"),
    "two people hugging": _standing("both arms close around somebody in front"),
    "one person handing an object to another": _standing("one hand reaches out to somebody in front"),
    "one person punching another": _standing("one fist punches at somebody in front"),
    "walking": _standing("both arms swing in turn", hips="the hips move forward", legs=_STEPS),
    "picking something up": PartSentences(
        head="the head goes down to the floor and up again",
        arms="one hand reaches down to the floor and comes up again",
        hips="the hips bend forward and rise again",
        legs="both knees bend and become straight again",
    ),
    "carrying something": _standing(
        "both hands are held in front of the belly", hips="the hips move forward", legs=_STEPS
    ),
    "pushing": _standing("one hand pushes forward from the chest until the arm is straight"),
    "pulling": _standing("one hand reaches out to the front and pulls back to the body"),
    "pitching a baseball": PartSentences(
        head="the head leans back and goes forward",
        arms="the arm is drawn back over the shoulder and throws forward",
        hips="the hips turn and move forward",
        legs="one knee lifts, then this leg takes a long step forward",
    ),
    "bench pressing a barbell": PartSentences(
        head="the head lies on the back and is still",
        arms="both hands push up from the chest until the arms are straight and come down again",
        hips="the hips lie still",
        legs="both knees are bent, the feet stay on the floor",
    ),
    "lifting a barbell, clean and jerk": PartSentences(
        head="the head rises from low down to high up",
        arms="both hands rise from the floor to the shoulders and then above the head",
        hips="the hips rise from a deep squat",
        legs="the deeply bent knees become straight",
    ),
    "jumping rope": PartSentences(
        head="the head goes up and down",
        arms="both hands turn in small circles beside the hips",
        hips="the hips jump up and down",
        legs="both feet jump on the spot",
    ),
    "doing jumping jacks": PartSentences(
        head="the head goes up and down",
        arms="both arms go up over the head and down to the sides again and again",
        hips="the hips jump up and down",
        legs="both legs jump apart and together",
    ),
    "doing pull-ups": PartSentences(
        head="the head goes up between the hands and down again",
        arms="both arms hang straight up over the head, the elbows bend and pull",
        hips="the hips hang and go up and down",
        legs="both legs hang down",
    ),
    "doing push-ups": PartSentences(
        head="the head faces the floor and goes up and down",
        arms="both arms bend and push against the floor",
        hips="the hips are straight and go up and down",
        legs="both legs lie stretched out straight",
    ),
    "doing sit-ups": PartSentences(
        head="the head rises from the floor and goes down again",
        arms="both hands are held at the head",
        hips="the hips lie on the floor and bend",
        legs="both knees are bent, the feet stay on the floor",
    ),
    "strumming a guitar": _standing(
        "one hand moves up and down in front of the belly, the other arm is bent to the side and still"
    ),
}

PART_SENTENCES: Mapping[str, PartSentences] = {MOVEMENTS[caption]: parts for caption, parts in _OF_CAPTION.items()}
"""By the sentence of :data:`MOVEMENTS` that describes the whole body."""
