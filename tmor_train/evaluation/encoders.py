"""Encoders to evaluate, from checkpoints or with new weights; their features of clips; and what of a benchmark they
were pre-trained on, as sentences that are printed beside every metric.

Test-time augmentation: a clip is encoded once or in several crops, and as mirror images too; features are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecap.duplicates import keys_near
from posecap.joints import body_parts
from posecap.leakage import MOST_COMPARED
from posecap.shards import Dataset, ShardError
from posecap.storage import StorageError
from tmor_train.backbones import FEATURES
from tmor_train.backbones.unik import UNIK
from tmor_train.benchmarks import Recordings
from tmor_train.configuration import from_json
from tmor_train.data import Batching, Loader, LoaderState, MotionBatch, MotionSet, Sampling
from tmor_train.data.augment import Augmentation, Flip
from tmor_train.data.dataset import Floats
from tmor_train.data.loader import seed_of
from tmor_train.data.provenance import SeenClips
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.evaluation.config import SCRATCH, ScratchConfig, StartConfig, TTAConfig
from tmor_train.evaluation.task import SHARDS, FrameTask, Task
from tmor_train.methods.base import MethodSettings
from tmor_train.pretrained.encoder import Pretrained, UnusableEncoderError, load
from tmor_train.training.config import PretrainConfig, ViewConfig
from tmor_train.training.distributed import autocast_of, device_of
from tmor_train.training.metric_logger import Progress

_WEIGHTS = 0  # purpose of random numbers: new weights


class EncoderNotFoundError(ValueError):
    """The configuration names no encoder, or the table has no row for it; the message says which option to give."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an encoder's weights are from: a file's ``name`` and ``sha256`` (64 hex digits), or ``scratch`` and None.

    ``config`` is that of its run as JSON values, ``seen`` the clips that it was trained on; None where the file does
    not say.
    """

    name: str
    sha256: str | None
    config: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    seen: SeenClips | None = field(default=None, repr=False, compare=False)


def encoder_name(config: StartConfig) -> str:
    """``weights`` of a configuration, where they are given.

    Raises:
        EncoderNotFoundError: they are None.
    """
    if config.weights is None:
        raise EncoderNotFoundError(
            f"no encoder is named: give --from CHECKPOINT (a file or a run's folder), or --from {SCRATCH}"
        )
    return config.weights


def load_encoder(config: StartConfig, *, seed: int, device: str) -> tuple[Pretrained, Source]:
    """The encoder that a configuration names, in evaluation mode, and where its weights are from.

    ``seed`` draws new weights (``scratch``); a checkpoint does not depend on it.

    Raises:
        EncoderNotFoundError: none is named.
        tmor_train.training.checkpoint.CheckpointError, tmor_train.pretrained.encoder.UnusableEncoderError: as
            :func:`tmor_train.load`, with its WrongWeightsError.
        ValueError: ``frames`` is below 1, or a size or layout of ``scratch`` is none (LayoutError).
    """
    weights = encoder_name(config)
    if weights == SCRATCH:
        encoder, source = _scratch(config, seed, device), Source(SCRATCH, None)
    else:
        encoder = load(weights, of=config.of, device=device)
        source = Source(f"{encoder.path.name} ({encoder.of})", encoder.sha256, encoder.config, encoder.seen)
    frames = encoder.sampling.frames if config.frames is None else config.frames
    choice = config.choice or encoder.sampling.choice
    return replace(encoder, sampling=replace(encoder.sampling, frames=frames, choice=choice)), source


def scratch_like(encoder: Pretrained) -> ScratchConfig | None:
    """An encoder of new weights that is built as ``encoder`` and sees clips as it was trained to (``frames`` and
    ``choice`` of a :class:`StartConfig` are not in it); None where its architecture is not known, or a method builds
    one of its own (CrosSCLR).
    """
    if encoder.config is not None:
        config = from_json(PretrainConfig, encoder.config)
        if config.method is not None and type(config.method).encoder is not MethodSettings.encoder:
            return None
        shape, sampling, views = config.encoder, config.sampling, config.views
    elif isinstance(network := encoder.network, UNIK):
        shape = EncoderConfig(tau=network.tau, heads=network.heads, people=network.people, channels=network.channels)
        sampling, views = encoder.sampling, encoder.views
    else:
        return None
    return ScratchConfig(encoder=shape, sampling=sampling, streams=views.streams, still=views.still)


def _scratch(config: StartConfig, seed: int, device: str) -> Pretrained:
    """An encoder with new weights, which ``seed`` draws."""
    where = device_of(device)
    scratch = config.scratch
    torch.manual_seed(seed_of(seed, _WEIGHTS))  # weights are drawn on the CPU, so they are the same on every device
    network = encoder_of(scratch.encoder, layout=scratch.sampling.layout, persons=scratch.sampling.people)
    return Pretrained(
        network=network.to(where).eval().requires_grad_(False),
        sampling=scratch.sampling,
        views=ViewConfig(still=scratch.still, streams=scratch.streams),
        path=Path(SCRATCH),
        sha256="",
        device=where,
    )


def features_of(
    encoder: Pretrained, motions: MotionSet, tta: TTAConfig, *, people: int = 1, workers: int = 1
) -> Floats:
    """Features of all clips before the projection, the mean over crops and mirror images: (N, 256 * people) float32.

    Args:
        people: how many people of a clip an encoder of single people encodes, one after the other; their features are
            concatenated. Where a clip has fewer, they are those of an empty skeleton. 1 for an encoder of several
            people.
        workers: threads that gather clips; 0: this one does.

    Raises:
        UnusableEncoderError: the encoder does not take such clips, or sees several people at once.
        ValueError: there are no clips, or their joints cannot be converted (LayoutError).
    """
    if people > 1 and encoder.sampling.people > 1:
        raise UnusableEncoderError(
            f"{encoder.path} sees {encoder.sampling.people} people at once; leave people=1 for it: only an encoder of "
            "single people is shown one after the other"
        )

    def features(batch: MotionBatch) -> Tensor:
        with autocast_of(encoder.precision, encoder.device):
            return encoder.network.clip_features(batch.motion_NCTVM, batch.present).float()

    ranked = (replace(encoder.sampling, rank=encoder.sampling.rank + number) for number in range(people))
    parts = [tta_features(motions, replace(encoder, sampling=seen), tta, features, workers=workers) for seen in ranked]
    return np.concatenate(parts, 1)


def local_features_of(encoder: Pretrained, motions: MotionSet, tta: TTAConfig, *, spans: int, workers: int) -> Floats:
    """Features of regions of all clips before the projection, the mean over crops and mirror images: (N, 1 + 4 +
    ``spans``, 256) float32, of the whole clip, of each of :data:`posecap.joints.BODY_PARTS`, and of ``spans``
    equal shares of time.

    Raises:
        UnusableEncoderError, ValueError: as :func:`features_of`.
    """
    parts = body_parts(encoder.sampling.layout)

    def features(batch: MotionBatch) -> Tensor:
        with autocast_of(encoder.precision, encoder.device):
            local = encoder.network.local_features(batch.motion_NCTVM, batch.present, parts=parts, spans=spans)
        return local.float().flatten(1)

    found = tta_features(motions, encoder, tta, features, workers=workers)
    return found.reshape(len(found), 1 + len(parts) + spans, FEATURES)


@torch.no_grad()
def tta_features(
    motions: MotionSet, encoder: Pretrained, tta: TTAConfig, answer: Callable[[MotionBatch], Tensor], *, workers: int
) -> Floats:
    """The mean of ``answer`` over the crops and mirror images of each clip: (N, D) float32, in the set's order.

    Args:
        answer: gives (n, D) for a batch of n clips, normalised and on the device as the encoder takes it.
        workers: as for :func:`features_of`.

    Raises:
        UnusableEncoderError, ValueError: as :func:`features_of`.
    """
    total: Floats | None = None
    flips: tuple[tuple[Augmentation, ...], ...] = ((),) if tta.mirrored == "off" else ((), (Flip(probability=1.0),))
    progress = Progress(steps=tta.crops * -(-len(motions) // tta.batch))
    for crop in range(tta.crops):
        for batch in _crop(motions, encoder.sampling, tta, crop, workers):
            on_device = batch.to(encoder.device)
            for flip in flips:
                # These steps are certain; what the generator draws changes nothing.
                seen = encoder.taken(on_device, (*encoder.views.still, *flip), torch.Generator(encoder.device))
                found_ND = answer(seen).float().cpu().numpy()
                if total is None:
                    total = np.zeros((len(motions), found_ND.shape[1]), np.float32)
                total[batch.index_N.numpy()] += found_ND
            progress.step(clips=len(batch), waited=0.0, words="clips seen")  # waiting for data is not measured here
    if total is None:
        raise ValueError("there are no clips to encode")
    return total / np.float32(tta.crops * len(flips))


def _crop(motions: MotionSet, sampling: Sampling, tta: TTAConfig, number: int, workers: int) -> Iterator[MotionBatch]:
    """All clips once: crop 0 has the middle of each, the others are drawn at random from ``number``, the same in every
    run."""
    loader = Loader(
        motions,
        sampling=replace(sampling, draw="random" if number else "deterministic"),
        batching=Batching(size=tta.batch, order="stored", last="keep"),
        workers=workers,
    )
    loader.state = LoaderState(epoch=number)
    yield from loader


def seen_notes(task: Task | FrameTask, source: Source | None, folder: str | None) -> tuple[str, ...]:
    """Notes on the clips of a task that an encoder was pre-trained on; none where it saw none of them, was never
    trained, or takes no part (``source`` None).

    Clips are compared where its checkpoint recorded those that it was trained on; else the names of its data with the
    benchmark's, whose files lie in ``folder``. Where both the benchmark and what it was trained on are posecap
    datasets, footage is compared, too.
    """
    if source is None or source.sha256 is None:
        return ()
    parts = (("measured", _motions(task.test)), ("train", _motions(task.train)))
    near = _near_notes(task, source.config, folder)
    if source.seen is not None:
        return (*(note for part, motions in parts for note in _overlap(part, motions, source.seen)), *near)
    known = [] if source.config is None else trained_names(task.benchmark.name, folder, source.config)
    by_name = tuple(f"the encoder was pre-trained: {what}" for what in known) or (
        "which clips the encoder was pre-trained on, its checkpoint does not record",
    )
    return (*by_name, *near)


def _near_notes(task: Task | FrameTask, config: Mapping[str, Any] | None, folder: str | None) -> tuple[str, ...]:
    """A note on measured clips that show what the encoder was pre-trained on, by signature, file and time; none where
    there are none, the benchmark is no posecap dataset, or its clips were left out of the training (``apart_from``)."""
    if task.benchmark.name != SHARDS or folder is None or config is None:
        return ()
    data = config["data"]
    here = Path(folder).resolve()
    others = tuple(one for one in data["shards"] if "://" in one or Path(one).resolve() != here or not data["split"])
    apart = any("://" not in one and Path(one).resolve() == here for one in data.get("apart_from", ()))
    if not others or apart:
        return ()
    try:
        near = _near_keys(folder, others, data["split"])
    except (ShardError, StorageError, OSError) as error:
        return (f"whether the encoder was pre-trained on footage of measured clips is not known: {error}",)
    motions = _motions(task.test)
    count = int(np.isin(motions.clips.key_N, sorted(near)).sum())
    if not count:
        return ()
    return (
        f"the encoder was pre-trained on footage of {count:,} of the {len(motions):,} measured clips, by signature, "
        f"file and time; pre-training with --set data.apart_from={folder} leaves it out",
    )


@lru_cache(maxsize=8)
def _near_keys(folder: str, shards: tuple[str, ...], split: str | None) -> frozenset[str]:
    """:func:`posecap.duplicates.keys_near`, once for all measurements of a run, which has one encoder or a few; of many
    clips by files alone."""
    clips = sum(Dataset(location).index().count_rows() for location in (folder, *shards))
    return keys_near(folder, *shards, split=split, compare="footage" if clips <= MOST_COMPARED else "files")


def _motions(part: MotionSet | Recordings) -> MotionSet:
    """The clips, or the recordings as clips, of a part of a task."""
    return part if isinstance(part, MotionSet) else part.motions


def _overlap(part: str, motions: MotionSet, seen: SeenClips) -> Iterator[str]:
    """A note on the clips of a part, which ``part`` names, that were trained on; none where there are none."""
    count, named = seen.count(motions)
    if count:
        captions = f", {named:,} of them with captions that say their class" if named else ""
        yield f"the encoder was pre-trained on {count:,} of the {len(motions):,} {part} clips{captions}"


def trained_names(benchmark: str, folder: str | None, config: Mapping[str, Any]) -> list[str]:
    """What of a benchmark a run was given to train on, by the names of its data, such as ``clips and captions of its
    train part``.

    Args:
        folder: where the benchmark's files lie.
        config: of the run, as JSON values.
    """
    data, objective = config["data"], config["objective"]
    captions = "clips and captions" if objective["w_mt"] else "clips"
    found = []
    for entry in data["sets"]:
        name, _, parts = entry.partition(":")
        if name == benchmark:
            found.append(f"{captions} of its {parts.replace('+', ' and ')} part" if parts else f"all its {captions}")
    here = None if folder is None else Path(folder).resolve()
    for location in data["shards"]:
        if "://" not in location and here is not None and Path(location).resolve() == here:
            part = f"its {data['split']} part" if data["split"] else "the whole of it"
            found.append(f"{captions} of {part}")
    return found


def leakage_notes(benchmark: str, folder: str | None, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Notes for a zero-shot metric: what of the benchmark the encoder was pre-trained on, by names.

    Args:
        folder: where the benchmark's files lie.
        config: of the run that the encoder is from, as JSON values; None where it is not known.
    """
    if config is None:
        return ("not known what the encoder was trained on",)
    notes = [f"not strictly zero-shot: {what} were pre-trained on" for what in trained_names(benchmark, folder, config)]
    if not notes:
        data = config["data"]
        sets = [*data["sets"], *(Path(location.rstrip("/")).name for location in data["shards"])]
        notes.append(f"pre-trained on {', '.join(sets) or 'no data that is named'}, not on {benchmark} by name")
    if config["loop"]["start"] == "checkpoint":
        began = Path(str(config["loop"]["start_from"])).name
        notes.append(f"it began with the weights of {began}, whose data are not known here")
    return tuple(notes)
