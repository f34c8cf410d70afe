"""Actions by what the body does instead of by name, in a sentence each, for training with text and for prompts.

A text encoder knows that squatting with a barbell and with arms stretched out are one movement only when it is told so.
After the action descriptions of GAP (Xiang et al., "Generative Action Description Prompts for Skeleton-based Action
Recognition", ICCV 2023). Actions that several sets have in common have one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

MOVEMENTS: Mapping[str, str] = {
    # UTD-MHAD
    "swiping to the left with the right arm": "standing, the right arm sweeps across the chest to the left",
    "swiping to the right with the right arm": "standing, the right arm sweeps across the chest to the right",
    "waving the right hand": "standing, the right hand is raised beside the head and waves from side to side",
    "clapping both hands in front": "standing, both hands meet in front of the chest again and again",
    "throwing with the right arm": "the right arm is drawn back over the shoulder and throws forward",
    "crossing arms on the chest": "standing, both arms fold over the chest and stay there",
    "shooting a basketball": "both hands rise from the chest to above the head and push forward",
    "drawing an x with the right hand": "standing, the right hand moves along two crossing lines in front of the body",
    "drawing a circle clockwise with the right hand": (
        "standing, the right hand moves round in a circle in front of the body"
    ),
    "drawing a circle counter-clockwise with the right hand": (
        "standing, the right hand moves round in a circle in front of the body"
    ),
    "drawing a triangle": "standing, the right hand moves along a triangle in front of the body",
    "bowling with the right hand": (
        "a step forward with the body bent low, one straight arm swings back and then forward below the hip"
    ),
    "boxing to the front": "standing, both fists punch forward from the chest in turn",
    "swinging a baseball bat from the right": (
        "both hands together swing sideways at the height of the chest, the trunk turns"
    ),
    "hitting a tennis forehand with the right hand": (
        "one arm swings sideways from behind to the front of the body, the trunk turns"
    ),
    "curling both arms": "standing, both elbows bend and bring the hands up to the shoulders",
    "serving in tennis": "one arm goes up over the head and strikes down to the front",
    "pushing with both hands": "standing, both hands push forward from the chest until the arms are straight",
    "knocking on a door with the right hand": "standing, one raised hand knocks a few times in front",
    "catching an object with the right hand": "one hand reaches out to the front and comes back to the body",
    "picking up and throwing with the right hand": (
        "bending down to the floor with one hand, then rising and throwing over the shoulder"
    ),
    "jogging in place": "the knees lift in turn and the arms swing, running on the spot",
    "walking in place": "the feet lift in turn, walking on the spot",
    "standing up from sitting": "from sitting with bent knees the trunk rises and the legs become straight",
    "sitting down from standing": "from standing the knees bend and the hips go down to a seat",
    "lunging forward with the left foot": "a long step forward, the front knee bends and the trunk goes down",
    "squatting with both arms stretched out": (
        "the knees bend deeply, the hips go down and then up again, the trunk upright"
    ),
    # MSR Action3D
    "waving an arm high": "standing, one raised arm waves beside the head",
    "waving an arm sideways": "standing, one arm waves to the side in front of the body",
    "hammering": "standing, one arm goes up and strikes down in front again and again",
    "catching with a hand": "one hand reaches out to the front and comes back to the body",
    "punching forward": "standing, one fist punches forward from the chest",
    "throwing high": "the arm is drawn back over the shoulder and throws forward",
    "drawing an x": "standing, the right hand moves along two crossing lines in front of the body",
    "drawing a tick": "standing, the right hand moves down and up again to the side in front of the body",
    "drawing a circle": "standing, the right hand moves round in a circle in front of the body",
    "clapping hands": "standing, both hands meet in front of the chest again and again",
    "waving both hands": "standing, both arms go up over the head and to the sides again and again",
    "boxing to the side": "standing, the fists punch to the side in turn",
    "bending down": "standing, the trunk bends forward and down and rises again",
    "kicking forward": "standing on one leg, the other leg kicks forward",
    "kicking to the side": "standing on one leg, the other leg kicks to the side",
    "jogging": "the knees lift in turn and the arms swing, running on the spot",
    "swinging a tennis racket": "one arm swings sideways from behind to the front of the body, the trunk turns",
    "swinging a golf club": (
        "the trunk bent forward, both hands together swing from one side down past the legs and up to the other side"
    ),
    "picking up and throwing": "bending down to the floor with one hand, then rising and throwing over the shoulder",
    # SBU Kinect Interaction
    "one person approaching another": "walking towards somebody with both arms hanging",
    "one person departing from another": "walking away from somebody with both arms hanging",
    "one person kicking another": "standing on one leg, the other leg kicks at somebody in front",
    "one person pushing another": "standing, both hands push somebody in front",
    "two people shaking hands": "standing, one hand reaches out to somebody in front and shakes",
    "two people hugging": "both arms close around somebody in front",
    "one person handing an object to another": "standing, one hand reaches out to somebody in front",
    "one person punching another": "standing, one fist punches at somebody in front",
    # UTKinect
    "walking": "walking forward, the legs step in turn and the arms swing",
    "sitting down": "from standing the knees bend and the hips go down to a seat",
    "standing up": "from sitting with bent knees the trunk rises and the legs become straight",
    "picking something up": "bending down to the floor with one hand, then rising",
    "carrying something": "walking with both hands held in front of the belly",
    "throwing": "the arm is drawn back over the shoulder and throws forward",
    "pushing": "standing, one hand pushes forward from the chest until the arm is straight",
    "pulling": "standing, one hand reaches out to the front and pulls back to the body",
    "waving hands": "standing, both arms go up over the head and to the sides again and again",
    # Penn Action
    "pitching a baseball": (
        "one knee lifts, a long step forward, the arm is drawn back over the shoulder and throws forward"
    ),
    "swinging a baseball bat": "both hands together swing sideways at the height of the chest, the trunk turns",
    "bench pressing a barbell": (
        "lying on the back, both hands push up from the chest until the arms are straight and come down again"
    ),
    "bowling": "a step forward with the body bent low, one straight arm swings back and then forward below the hip",
    "lifting a barbell, clean and jerk": (
        "from a deep squat both hands rise from the floor to the shoulders and then above the head"
    ),
    "jumping rope": "jumping on the spot with both feet, the hands turning beside the hips",
    "doing jumping jacks": "jumping, both arms go up over the head and to the sides again and again, the legs spread",
    "doing pull-ups": "hanging with both arms straight up over the head, the elbows bend and pull the body up and down",
    "doing push-ups": "lying face down, both arms bend and push the straight body up and down",
    "doing sit-ups": "lying on the back with bent knees, the trunk rises to sitting and goes down again",
    "squatting with a barbell": "the knees bend deeply, the hips go down and then up again, the trunk upright",
    "strumming a guitar": "one hand moves up and down in front of the belly, the other arm bent to the side and still",
    "hitting a tennis forehand": "one arm swings sideways from behind to the front of the body, the trunk turns",
}
"""By the sentences that the sets have as captions."""

__all__ = ["MOVEMENTS"]
