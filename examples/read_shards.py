"""Read a dataset in a plain torch loop, with webdataset, and with Hugging Face datasets.

pip install -e . webdataset datasets
python examples/read_shards.py datasets/demo --split train
"""

import argparse
from pathlib import Path

import datasets
import torch
import webdataset

import posecap


def with_torch(dataset: str, split: str) -> None:
    """Shuffled, divided among ranks and workers, and padded to batches. ``dataset`` may be a folder or a URL."""
    stream = posecap.open(dataset, split=split, seed=0, fields=("joints", "video", "text", "captions"))
    loader = stream.loader(batch_size=4, num_workers=2)  # a torch DataLoader
    for epoch in range(2):
        loader.set_epoch(epoch)  # another order
        for batch in loader:
            joints_BMTJ3, mask_BMT = batch["joints_BMTJ3"], batch["frames_BMT"]
            mean_score = joints_BMTJ3[mask_BMT][..., 2].mean()
            print(f"torch: {tuple(joints_BMTJ3.shape)}, mean score {mean_score:.2f}, {batch['captions'][0]}")


def with_webdataset(tars: list[str]) -> None:
    """The shards are plain WebDataset tars."""
    for sample in webdataset.WebDataset(tars, shardshuffle=False).decode():
        joints_MTJ3 = torch.from_numpy(sample["joints.npy"])
        print(f"webdataset: {sample['__key__']} {tuple(joints_MTJ3.shape)}, {sample['txt']}")


def with_hugging_face(tars: list[str], split: str) -> None:
    """The loader of Hugging Face datasets for WebDataset tars; without `streaming` it first makes a copy of its own."""
    stream = datasets.load_dataset("webdataset", data_files={split: tars}, split=split, streaming=True)
    for sample in stream.with_format("numpy"):
        print(f"datasets: {sample['__key__']} {sample['joints.npy'].shape}, {sample['txt']}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", help="a folder that `posecap build` made")
    parser.add_argument("--split", default="train")
    arguments = parser.parse_args()
    tars = sorted(str(path) for path in Path(arguments.dataset).glob(f"data/{arguments.split}/pose-*.tar"))

    with_torch(arguments.dataset, arguments.split)
    with_webdataset(tars)
    with_hugging_face(tars, arguments.split)


if __name__ == "__main__":
    main()
