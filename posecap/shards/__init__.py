"""The on-disk schema of a dataset: file names, columns and bytes are defined in this package only.

::

    data/{split}/pose-00042.tar      {key}.joints.npy (M,T,J,3) float32, .pts.npy (T) float64, .video.npy (D) float32,
                                     .text.npy (C,D) float32, .txt (first caption), .json (facts, captions, origins)
    data/{split}/video-00042.tar     {key}.mp4, only where the pipeline stores video
    data/{split}/pose-00042.columns  the same arrays as an Arrow IPC file
    data/{split}/pose-00042.json     the sidecar: hashes, counts, the outcome of every row; written last
    index/{split}-00042.parquet      one row for each sample, see INDEX_SCHEMA
    dataset.json                     the list of committed parts
    extra/{member}/{split}-00042.arrow, .json, extra.json   vectors and captions that were added (posecap.shards.extra)
    tombstones.json                  keys and sources that were removed

M, T, J and C count people, frames, joints and captions; D is the length of a vector, of video and of text its own.
Joints are x and y in pixels of the source video as displayed (origin at the top left, x to the right, y down) and a
score from 0 to 1, all 0 where a joint is not seen. Times are seconds from the start of the whole video, also where only
a part of it was downloaded. A sample has the same key in every file: its clip's id. A part without samples has a
sidecar only.
"""

from posecap.shards.dataset import Dataset, Tombstones, read_tombstones, reject_removed, remove_samples
from posecap.shards.index import INDEX_SCHEMA
from posecap.shards.part import PartFiles, commit_part, discard_files, read_part, remove_part, write_files, write_part
from posecap.shards.paths import FORMAT, ShardError, committed, is_dataset, not_a_dataset
from posecap.shards.serialization import COLUMNS_SCHEMA
from posecap.shards.sidecar import damaged_files, read_sidecar, sidecars, write_dataset_list
from posecap.shards.where import Where, WhereError

__all__ = [
    "COLUMNS_SCHEMA",
    "FORMAT",
    "INDEX_SCHEMA",
    "Dataset",
    "PartFiles",
    "ShardError",
    "Tombstones",
    "Where",
    "WhereError",
    "commit_part",
    "committed",
    "damaged_files",
    "discard_files",
    "is_dataset",
    "not_a_dataset",
    "read_part",
    "read_sidecar",
    "read_tombstones",
    "reject_removed",
    "remove_part",
    "remove_samples",
    "sidecars",
    "write_dataset_list",
    "write_files",
    "write_part",
]
