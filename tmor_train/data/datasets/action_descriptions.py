"""Sentences that say what the body does in each action of the sets, for training with text and for prompts.

A text encoder places "squatting with a barbell" and "squatting with both arms stretched out" apart, although the body
does the same; with these sentences, both have the same text. After the action descriptions of GAP (Xiang et al.,
"Generative Action Description Prompts for Skeleton-based Action Recognition", ICCV 2023). Actions that several sets
have in common have one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

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
