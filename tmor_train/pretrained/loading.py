"""Loads encoders from the checkpoints of runs, and from released weights of UNIK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from posecap.files import file_sha256
from posecap.joints import LAYOUTS
from posecap.weights import checkpoints
from tmor_train import legacy
from tmor_train.backbones import Backbone
from tmor_train.backbones.unik import UNIK
from tmor_train.configuration import as_json, from_json
from tmor_train.data import Normalise, Sampling
from tmor_train.data.provenance import Inputs, SeenClips
from tmor_train.encoder import heads_of
from tmor_train.methods import encoder_for
from tmor_train.pretrained.encoder import Pretrained, UnusableEncoderError
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError, DamagedCheckpointError
from tmor_train.training.config import PretrainConfig, ViewConfig
from tmor_train.training.distributed import Precision, device_of

Of = Literal["ema", "online"]
"""Which of a run's two encoders: the EMA over its steps, or the trained one (``online``); each has its motion head."""

# A state dict does not say which joints it is for. UNIK's code has these two: 17 in 2D, and Kinect's 25 in 3D.
_RELEASED_LAYOUTS = {(17, 2): "unik17", (25, 3): "ntu25"}
_RELEASED_FRAMES = 150  # of a clip, in the configurations of UNIK's code


def load(
    place: str | Path,
    *,
    of: Of | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    sampling: Sampling | None = None,
    onnx: str | Path | None = None,
) -> Pretrained:
    """The encoder of a checkpoint, ready to use.

    Args:
        place: a checkpoint; or the folder of a run, of which the newest checkpoint is loaded; or a released state dict
            of UNIK. The last has no heads, its classifier is left out, and clips are sampled as its authors do in
            tests: the middle 150 frames (shorter clips repeated), normalised as pictures of 640 x 480.
        of: which of a run's encoders; None is the one whose embeddings the run clustered, or would have clustered
            (``clusters.of``). Released weights are one encoder, and ``of`` is not used for them.
        device: a device by torch's name, or ``auto``: a GPU if there is one, else the CPU.
        precision: in which the encoder computes; ``auto`` is bfloat16 on GPUs that support it.
        sampling: how frames and people of clips are sampled; None is as in training.
        onnx: a file that ``tmor_train export`` made of this checkpoint; ONNX Runtime then computes the embeddings, on
            the CPU, in the file's own precision, several times as fast as torch.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or not one of tmor_train.
        tmor_train.backbones.unik.WrongWeightsError: a state dict of another network than UNIK.
        UnusableEncoderError: released weights for unknown joints; give ``sampling`` with their layout.
        FileNotFoundError, tmor_train.pretrained.export.ExportError: ``onnx`` is missing, damaged, of another
            checkpoint, or ``device`` is not the CPU.
    """
    path = Path(place)
    where = device_of(device)
    try:
        path, content = checkpoint.load_latest(path)
    except DamagedCheckpointError:
        raise  # its tensors are not to be taken by the reader of released weights either
    except CheckpointError as not_a_run:
        if not path.is_file():
            raise
        encoder = _released(path, not_a_run, sampling)
    else:
        encoder = _trained(path, content, of)
    encoder.network.to(where).eval().requires_grad_(False)
    found = replace(encoder, device=where, precision=precision, sampling=sampling or encoder.sampling)
    return found if onnx is None else _in_onnxruntime(found, Path(onnx))


def _in_onnxruntime(encoder: Pretrained, path: Path) -> Pretrained:
    """The encoder with its network computed by ONNX Runtime; raises what :func:`load` says."""
    from tmor_train.pretrained.export import ExportError, OnnxBackbone

    if encoder.device.type != "cpu":
        raise ExportError(f"{path} is computed on the CPU, not on {encoder.device}; give device cpu")
    network = OnnxBackbone(path, encoder)
    return replace(encoder, network=network, onnx={"sha256": network.sha256, "precision": network.precision})


def _trained(path: Path, content: Mapping[str, Any], of: Of | None) -> Pretrained:
    """The encoder of a run's checkpoint, whose content is not trusted: CheckpointError for any other."""
    try:
        config = from_json(PretrainConfig, json.loads(content["config"]))
        of = of or config.clusters.of
        learner = legacy.train_state(content["learner"])
        network = _network(config, learner["ema" if of == "ema" else "encoder"])
        headless = config.method is not None and config.method.heads == "none"
        heads = None if headless else heads_of(config.objective, learner["objective"], of=of)
        seen = SeenClips.from_state(content["seen"]) if "seen" in content else None
        inputs = Inputs.from_json(json.loads(content["inputs"])) if "inputs" in content else None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold what a checkpoint of tmor_train holds ({type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}); it is damaged, or of another version"
        ) from error
    return Pretrained(
        network=network,
        heads=heads,
        sampling=config.sampling,
        views=config.views,
        path=path,
        sha256=file_sha256(path),
        of=of,
        config=as_json(config),
        seen=seen,
        inputs=inputs,
    )


def _network(config: PretrainConfig, tensors: Mapping[str, torch.Tensor]) -> Backbone:
    """The encoder with these weights. Shapes are compared before any memory is allocated for it; ValueError for
    others."""
    layout, persons = config.sampling.layout, config.sampling.people
    with torch.device("meta"):
        wanted = encoder_for(config.method, config.encoder, layout=layout, persons=persons).state_dict()
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: t.shape for name, t in wanted.items()}:
        raise ValueError("the encoder's tensors are not those of its configuration")
    network = encoder_for(config.method, config.encoder, layout=layout, persons=persons)
    network.load_state_dict(tensors)
    return network


def _released(path: Path, not_a_run: CheckpointError, sampling: Sampling | None) -> Pretrained:
    """UNIK from a released state dict; raises ``not_a_run`` for a file without tensors."""
    try:
        tensors = checkpoints.tensors(path)
    except checkpoints.CheckpointError as error:
        raise not_a_run from error
    network = UNIK.from_state_dict(tensors, head="drop")
    layout = _RELEASED_LAYOUTS.get((network.joints, network.channels))
    if sampling is None and layout is None:
        raise UnusableEncoderError(
            f"{path} takes {network.joints} joints of {network.channels} coordinates and does not say which joints; "
            f"name them with sampling=Sampling(layout=…), one of {', '.join(LAYOUTS)}"
        )
    seen = Sampling(
        frames=_RELEASED_FRAMES,
        choice="window",
        padding="loop",
        people=network.persons,
        layout=layout or "unik17",
        normalise=Normalise("fixed640"),
    )
    return Pretrained(
        network=network, sampling=sampling or seen, views=ViewConfig(), path=path, sha256=file_sha256(path)
    )
