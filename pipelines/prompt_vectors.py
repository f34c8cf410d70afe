"""Vectors of the sentences that stand for a benchmark's classes, for ``tmor_train run zero_shot --texts FILE``.

    python pipelines/prompt_vectors.py prompts.parquet penn_action smarthome
    python pipelines/prompt_vectors.py prompts.parquet shards=datasets/mine --engine viclip-b16

The text encoder has to be the one whose vectors the checkpoint was trained with: ``minilm`` for skeleton sets
(``pipelines/caption_vectors.py``), the ViCLIP of the build for posecap datasets. A posecap dataset is named with its
folder, from which its classes are read. ``--list`` prints the sentences and embeds nothing. The Parquet file has the
columns ``sentence`` and ``vector`` (float32, length 1), a row for each sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.interfaces import TextEmbedder
from tmor_train.benchmarks import benchmark
from tmor_train.prompts import CLASS_WORDS, all_prompts, class_texts


def sentences_of(benchmarks: Iterable[str]) -> list[str]:
    """All prompts of benchmarks, each ``NAME`` or ``NAME=FOLDER``, without repeats."""
    sentences: list[str] = []
    for argument in benchmarks:
        name, _, folder = argument.partition("=")
        classes: tuple[str, ...] = tuple(CLASS_WORDS.get(benchmark(name).name, ()))
        if not classes:
            if not folder:
                raise SystemExit(f"the classes of {name} are read from its files: name their folder, {name}=FOLDER")
            parts = benchmark(name).read(Path(folder), benchmark(name).protocols[0])
            classes = parts.train.classes
        sentences += all_prompts(class_texts(name, classes))
    return list(dict.fromkeys(sentences))


def embedder(name: str) -> TextEmbedder:
    """The text encoder of a name: ``minilm``, or a size of ViCLIP."""
    if name == "minilm":
        from posecap.engines.minilm import MiniLM

        return MiniLM()
    from posecap.engines.viclip import ViCLIPEmbedder

    return ViCLIPEmbedder(weights_from=name)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Embed the sentences that stand for the classes of benchmarks.")
    parser.add_argument("output", type=Path, help="the Parquet file to write")
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="a name, or NAME=FOLDER")
    parser.add_argument("--engine", default="minilm", help="minilm, viclip-b16 or viclip-l14 (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the sentences and write nothing")
    options = parser.parse_args(arguments)
    sentences = sentences_of(options.benchmarks)
    if options.list:
        sys.stdout.write("\n".join([*sentences, ""]))
        return
    encoder = embedder(options.engine)
    table = pa.table({"sentence": sentences, "vector": list(encoder.embed_text(sentences))})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, options.output)
    sys.stdout.write(f"{options.output}: {len(sentences)} sentences\n")


if __name__ == "__main__":
    main()
