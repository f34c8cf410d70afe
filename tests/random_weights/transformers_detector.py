"""Object detectors in the hub's format, written by transformers itself, with random weights: tiny ones, one to time.

rf_detr_base(folder)   has the size of the published Roboflow/rf-detr-base
rf_detr(folder)        chooses the best of all queries and classes by a sigmoid, as RT-DETR and D-FINE do
yolos(folder)          chooses each query's best class by a softmax, as DETR does
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from posecap.inference.package_compat import ensure_torchvision
from posecap.weights.checkpoints import MARK

ensure_torchvision()  # before transformers imports it

from transformers import (  # noqa: E402
    AutoModelForObjectDetection,
    RfDetrConfig,
    RfDetrDinov2Config,
    RfDetrImageProcessor,
    YolosConfig,
    YolosImageProcessor,
)

_NAMES = {0: "N/A", 1: "person", 2: "bicycle"}


def rf_detr(folder: Path, *, seed: int = 0, names: dict[int, str] | None = None) -> Path:
    backbone = RfDetrDinov2Config(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=112,
        patch_size=14,
        num_windows=2,
        out_features=["stage1", "stage2"],
    )
    config = RfDetrConfig(
        backbone_config=backbone,
        d_model=48,
        decoder_layers=2,
        decoder_ffn_dim=64,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2,
        num_queries=30,
        group_detr=2,
        id2label=names or _NAMES,
    )
    processor = RfDetrImageProcessor(size={"height": 112, "width": 112})
    return _write(folder, config, processor, seed=seed)


def rf_detr_base(folder: Path, *, seed: int = 0) -> Path:
    processor = RfDetrImageProcessor(size={"height": 560, "width": 560})
    return _write(folder, RfDetrConfig(id2label=_NAMES), processor, seed=seed)


def yolos(folder: Path, *, seed: int = 0) -> Path:
    config = YolosConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[96, 160],
        patch_size=16,
        num_detection_tokens=30,
        id2label=_NAMES,
    )
    return _write(folder, config, YolosImageProcessor(size={"height": 96, "width": 160}), seed=seed)


FAMILIES: dict[str, Callable[[Path], Path]] = {"rf_detr": rf_detr, "yolos": yolos}


def _write(folder: Path, config: Any, processor: Any, *, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModelForObjectDetection.from_config(config).eval()
        with torch.no_grad():
            for name, tensor in network.named_parameters():
                if name.endswith("weight") and tensor.ndim > 1:
                    tensor.copy_(torch.randn(tensor.shape) / tensor[0].numel() ** 0.5)
                elif "class" in name and name.endswith("bias") and len(tensor) in (len(_NAMES), len(_NAMES) + 1):
                    tensor.copy_(torch.tensor([-1.0, 0.5, -0.5, -1.0])[: len(tensor)])  # some of all are people
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    written = folder / "config.json"
    written.write_text(json.dumps(json.loads(written.read_text()) | {MARK: True}, indent=2))
    return folder
