"""Vectors of the sentences that stand for a benchmark's classes, for ``tmor_train run zero_shot --texts FILE``.

    python pipelines/prompt_vectors.py prompts.parquet penn_action smarthome
    python pipelines/prompt_vectors.py prompts.parquet shards=datasets/mine --engine viclip-b16
    python pipelines/prompt_vectors.py prompts.parquet --class-texts sitting "drinking water"

The text encoder has to be the one whose vectors the checkpoint was trained with: ``minilm`` for skeleton sets
(``pipelines/caption_vectors.py``), the ViCLIP of the build for posecap datasets. A posecap dataset is named with its
folder, from which its classes are read. ``--class-texts`` is for classes in your own words, as ``--set class_texts=``
gives them to ``zero_shot``. ``--list`` prints the sentences and embeds nothing. The Parquet file has the
columns ``sentence`` and ``vector`` (float32, length 1), a row for each sentence; one that is there is replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.interfaces import TextEmbedder
from tmor_train.benchmarks import benchmark
from tmor_train.data_sources import MissingTextError
from tmor_train.prompts import CLASS_WORDS, all_prompts, class_texts


def sentences_of(benchmarks: Iterable[str], class_words: Sequence[str] = ()) -> list[str]:
    """All prompts of benchmarks, each ``NAME`` or ``NAME=FOLDER``, and of classes in words, without repeats.
    Classes that are read from files are those of the benchmark's first protocol.

    Raises:
        SystemExit: a benchmark's classes are not known, or have no words.
        tmor_train.benchmarks.UnknownBenchmarkError: there is no such benchmark.
    """
    sentences = all_prompts(class_words)
    for argument in benchmarks:
        name, _, folder = argument.partition("=")
        classes: tuple[str, ...] = tuple(CLASS_WORDS.get(benchmark(name).name, ()))
        if not classes:
            if not folder:
                raise SystemExit(f"the classes of {name} are read from its files: name their folder, {name}=FOLDER")
            parts = benchmark(name).read(Path(folder), benchmark(name).protocols[0])
            classes = parts.train.classes
        try:
            sentences += all_prompts(class_texts(name, classes))
        except MissingTextError as error:
            raise SystemExit(str(error)) from None
    return list(dict.fromkeys(sentences))


def embedder(name: str) -> TextEmbedder:
    """The text encoder of a name: ``minilm``, or a size of ViCLIP. It raises posecap.models.MissingWeightsError with
    its first sentence, where its weights are neither here nor downloadable."""
    if name == "minilm":
        from posecap.engines.minilm import MiniLM

        return MiniLM()
    from posecap.engines.viclip import ViCLIPEmbedder

    return ViCLIPEmbedder(weights_from=name)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Embed the sentences that stand for the classes of benchmarks.")
    parser.add_argument("output", type=Path, help="the Parquet file to write")
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="a name, or NAME=FOLDER")
    parser.add_argument("--class-texts", nargs="+", default=[], metavar="TEXT", help="classes in your own words")
    parser.add_argument("--engine", default="minilm", help="minilm, viclip-b16 or viclip-l14 (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the sentences and write nothing")
    options = parser.parse_args(arguments)
    sentences = sentences_of(options.benchmarks, options.class_texts)
    if not sentences:
        parser.error("name a benchmark, or give --class-texts")
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
