"""Training data of T-MOR: sets of skeleton clips, batches of them, and augmentations of batches::

    motions = read_shards("dataset", split="train")  # or tmor_train.data.datasets.penn_action.read(folder)
    loader = Loader(motions, sampling=Sampling(frames=64), batching=Batching(size=256))
    for batch in loader:  # one epoch
        positive = augmented(batch, FAITHFUL, generator)  # of tmor_train.data.augment

A clip (:class:`Clip`) is a stretch of video as the skeletons of the people in it: a trimmed action, or a whole
untrimmed recording where labels are per frame. A :class:`MotionSet` holds many clips, a :class:`MotionBatch` some of
them, sampled to one number of frames and people.
"""

from tmor_train.data.batch import MotionBatch, Normalise
from tmor_train.data.dataset import Clip, MotionSet, combined, from_clips
from tmor_train.data.loader import Batching, Loader, LoaderState, ProcessRank, Sampling
from tmor_train.data.shards import read_shards

__all__ = [
    "Batching",
    "Clip",
    "Loader",
    "LoaderState",
    "MotionBatch",
    "MotionSet",
    "Normalise",
    "ProcessRank",
    "Sampling",
    "combined",
    "from_clips",
    "read_shards",
]
