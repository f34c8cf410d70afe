"""Pre-train an encoder, and compare linear probes on its frozen features and on those of one never trained.

    pip install -e '.[train]'
    python examples/pretrain_and_probe.py DATASET --epochs 10

DATASET is a folder that `posecap build` made, with labels and the splits train and test. The calls are those of the
command line: `tmor_train run pretrain_demo --data DATASET …`.
"""

import argparse
import sys
from pathlib import Path

from tmor_train.cli import main as tmor_train
from tmor_train.results import read_result


def accuracy(dataset: str, weights: str, folder: Path) -> float:
    """Share (0 to 1) of the test clips whose label a linear layer on the encoder's features predicts."""
    run("run", "probe", "--benchmark", "shards", "--data", dataset, "--from", weights, "--output", str(folder))
    return read_result(folder).metrics["top1"]


def run(*words: str) -> None:
    """Run a command of tmor_train; ends the program when it fails."""
    if code := tmor_train(words):
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--epochs", default="10")
    parser.add_argument("--runs", type=Path, default=Path("runs/example"))
    arguments = parser.parse_args()

    trained = arguments.runs / "pretrain"
    data = ("--data", arguments.dataset, "--set", "data.split=train")
    run("run", "pretrain_demo", *data, "--epochs", arguments.epochs, "--output", str(trained))

    after = accuracy(arguments.dataset, str(trained), arguments.runs / "probe")
    before = accuracy(arguments.dataset, "scratch", arguments.runs / "probe_scratch")
    print(f"top 1: {after:.1%} trained, {before:.1%} never trained")


if __name__ == "__main__":
    main()
