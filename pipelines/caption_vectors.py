"""Vectors of the captions of published skeleton sets, for ``tmor_train run pretrain_sets``.

    python pipelines/caption_vectors.py datasets/skeletons datasets/captions.parquet

Sentences of the sets that lie in the first folder, each under its name, go through the demo's text encoder
(all-MiniLM-L6-v2, from a pinned package); the file has a row for each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.engines.minilm import MiniLM
from tmor_train.data.sets import SETS


def main(folder: Path, output: Path) -> None:
    sets = [read(folder / name) for name, read in SETS.items() if (folder / name).is_dir()]
    sentences = sorted({sentence for one in sets for sentence in one.sentences})
    encoder = MiniLM()
    encoder.warm_up()
    table = pa.table({"sentence": sentences, "vector": list(encoder.embed_text(sentences))})
    output.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
