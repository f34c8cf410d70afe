"""Training data of T-MOR: motion sets, batches and augmentations.

motions = read_shards("dataset", split="train")            # or tmor_train.data.datasets.penn_action.read(folder)
loader = Loader(motions, sampling=Sampling(frames=64), batching=Batching(size=256))
for batch in loader:                                         # the rest of an epoch
    positive = augmented(batch, FAITHFUL, generator)
"""

from tmor_train.data.batch import MotionBatch
from tmor_train.data.builder import combined, from_clips
from tmor_train.data.dataset import Clip, MotionSet
from tmor_train.data.loader import Batching, Loader, LoaderState, Place, Sampling
from tmor_train.data.modalities import Normalise
from tmor_train.data.shards import read_shards

__all__ = [
    "Batching",
    "Clip",
    "Loader",
    "LoaderState",
    "MotionBatch",
    "MotionSet",
    "Normalise",
    "Place",
    "Sampling",
    "combined",
    "from_clips",
    "read_shards",
]
