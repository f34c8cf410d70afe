"""Vectors of the captions of published skeleton sets, for ``tmor_train run pretrain_sets``.

    python pipelines/caption_vectors.py datasets/skeletons datasets/captions.parquet
    python pipelines/caption_vectors.py datasets/skeletons datasets/movements.parquet --movements

The first folder holds the sets, each in a folder of its name (``tmor_train.data.datasets.SETS``). Their sentences are
embedded by the text encoder of the default pipeline (all-MiniLM-L6-v2, from a pinned package). The Parquet file has a
row for each, with the columns ``sentence`` and ``vector`` (384 float32, length 1). With ``--movements`` a sentence's
vector is that of a description of the movement (``tmor_train/data/datasets/action_descriptions.py``, which has one for
every sentence of these sets), not that of the action's name. A file that is there is replaced; a set whose files are
damaged ends the program with the reader's error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.engines.minilm import MiniLM
from tmor_train.data.datasets import SETS
from tmor_train.data.datasets.action_descriptions import MOVEMENTS


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Embed the captions of published skeleton sets.")
    parser.add_argument("folder", type=Path, help="the folder of the sets, each in a folder of its name")
    parser.add_argument("output", type=Path, help="the Parquet file to write")
    parser.add_argument(
        "--movements", action="store_true", help="embed descriptions of movements instead of the names of actions"
    )
    options = parser.parse_args(arguments)
    sets = [read(options.folder / name) for name, read in SETS.items() if (options.folder / name).is_dir()]
    if not sets:
        parser.error(f"{options.folder} holds none of the folders {', '.join(SETS)}")
    sentences = sorted({sentence for one in sets for sentence in one.sentences})
    encoder = MiniLM()
    encoder.load()
    embedded = [MOVEMENTS[sentence] for sentence in sentences] if options.movements else sentences
    table = pa.table({"sentence": sentences, "vector": list(encoder.embed_text(embedded))})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, options.output)


if __name__ == "__main__":
    main()
