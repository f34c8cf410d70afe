"""The three losses of the paper, each on unit vectors and masks: who is compared with whom, and Eqs. 1 to 8."""

from tmor_train.losses.contrast import Term
from tmor_train.losses.motion_motion import motion_motion
from tmor_train.losses.motion_text import motion_text
from tmor_train.losses.motion_video import motion_video

__all__ = ["Term", "motion_motion", "motion_text", "motion_video"]
