"""A trained encoder in use: from skeletons to vectors, and from a vector to the nearest texts::

    encoder = tmor_train.load("runs/stage2")
    vector = encoder.embed(joints_MTJ3, layout="coco17", size=(1920, 1080))
    encoder.nearest_texts(vector, texts=("walk", "sit down"), text_vectors=vectors_KD)

:func:`load` takes the checkpoints of runs, and released weights of UNIK. No video is needed; text vectors come from the
text model that the encoder was trained with.

:func:`embed_to_parquet` writes the embeddings of a whole set to a Parquet file, with a row for each clip in the order
of the set. The columns ``key``, ``label`` (class name) and ``split`` are strings, ``label`` null where unknown;
``embedding`` is a list of 256 float32. The file's metadata says, as JSON, which encoder made them
(``tmor_train.encoder``) and of which clips (``tmor_train.set``). The same encoder, clips and batch size give the same
bytes on the same CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from posecap.files import Existing, atomic_path, file_sha256
from posecap.joints import LAYOUTS
from posecap.weights import checkpoints
from tmor_train import legacy
from tmor_train.backbones import FEATURES, Backbone
from tmor_train.backbones.unik import UNIK
from tmor_train.configuration import as_json, from_json
from tmor_train.data import Batching, Clip, Loader, MotionBatch, MotionSet, Normalise, Sampling, from_clips
from tmor_train.data.augment import Augmentation, augmented
from tmor_train.data.batch import streamed
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data.provenance import Inputs, SeenClips
from tmor_train.data_sources import DataConfig, fingerprint
from tmor_train.encoder import Heads, UnusableEncoderError, heads_of
from tmor_train.methods import encoder_for
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError, DamagedCheckpointError
from tmor_train.training.config import PretrainConfig, ViewConfig
from tmor_train.training.distributed import Precision, autocast_of, device_of
from tmor_train.training.metric_logger import Progress


@dataclass(frozen=True, eq=False, kw_only=True)
class Pretrained:
    """An encoder with its projection heads and the preprocessing of clips; :func:`tmor_train.load` makes it.

    ``heads`` is None for released weights and for methods without heads of their own. ``sampling`` and ``views`` are
    those of training, so that clips are preprocessed as training did for its own embeddings; of ``views`` only
    ``still`` and ``streams`` are used, and embeddings are sampled with ``draw`` ``deterministic`` whatever ``sampling``
    says. ``path`` is the checkpoint and ``sha256`` the hash of its bytes in hexadecimal, empty for new weights. ``of``
    says which of the run's encoders it is, ``ema`` or ``online`` (the trained one, also of released and new weights).
    ``config`` is the whole configuration of the run as JSON values; None for released and new weights. ``seen`` are the
    clips that it and the run that it started from were trained on, ``inputs`` the files that the run read; None where
    that is not recorded. ``network`` is in evaluation mode on ``device``; ``heads`` work on the CPU. ``precision`` is
    what ``network`` computes in. ``onnx`` says which ONNX file computes it, by hash and precision; None where torch
    does.
    """

    network: Backbone = field(repr=False)
    heads: Heads | None = None
    sampling: Sampling
    views: ViewConfig
    path: Path
    sha256: str
    of: str = "online"
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    seen: SeenClips | None = field(default=None, repr=False)
    inputs: Inputs | None = field(default=None, repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "float32"
    onnx: Mapping[str, str] | None = None

    def embed(self, joints: ArrayLike, *, layout: str = "coco17", size: tuple[float, float] | None = None) -> Floats:
        """E_M of one clip: (256,) float32.

        Args:
            joints: (M, T, J, 3): people, frames, joints and (x, y, score), in pixels; or (M, T, J, 4) with (x, y, z,
                score), in metres and camera axes (:class:`~tmor_train.data.Clip`). (T, J, 3) or (T, J, 4) is one
                person. A joint that was not seen has the score 0. Any M and T of at least 1: frames and people are
                taken as ``sampling`` says.
            layout: which joints they are, a name of :data:`posecap.joints.LAYOUTS`.
            size: (width, height) of the picture in pixels, for joints in pixels; for joints in metres it is not used.

        Raises:
            UnusableEncoderError: no joint is seen, or the clip has another number of coordinates than the encoder
                takes.
            posecap.joints.LayoutError: the joints are not of that layout or not finite, ``size`` is missing, or there
                is no exact map to the encoder's layout.
        """
        values = np.asarray(joints, np.float32)
        width, height = size or (0.0, 0.0)
        joints_MTJC = values[None] if values.ndim == 3 else values
        clip = Clip(key="to embed", joints_MTJC=joints_MTJC, layout=layout, width=width, height=height)
        if not (joints_MTJC[..., -1] > 0).any():
            raise UnusableEncoderError("no joint of the clip has a score above 0, so there is nothing to embed")
        vector: Floats = self.embed_clips([clip])[0]
        return vector

    def embed_clips(self, clips: Iterable[Clip], *, batch: int = 32) -> Floats:
        """E_M of clips of any lengths and layouts, each with another key: (N, 256) float32, ``batch`` clips at a time.

        Raises:
            UnusableEncoderError, posecap.joints.LayoutError: as :meth:`embed`.
            ValueError: there is no clip, or two have the same key.
        """
        return np.concatenate([vectors for _, vectors in self.embed_set(from_clips(clips), batch=batch, workers=0)])

    def embed_set(self, motions: MotionSet, *, batch: int = 32, workers: int = 1) -> Iterator[tuple[Numbers, Floats]]:
        """E_M of all clips of a set in its order, ``batch`` at a time: their indices (n,) int64 and (n, 256) float32.

        ``workers`` are threads that gather clips (0: this one does). A clip in which no joint is seen gets a vector
        too, which has no meaning. On a CPU, batches of 8 to 64 clips are fastest.

        Raises:
            UnusableEncoderError, posecap.joints.LayoutError: as :meth:`embed`.
        """
        for clips in self.network_inputs(motions, batch=batch, workers=workers):
            yield clips.index_N.cpu().numpy(), self._features(clips).cpu().numpy()

    def network_inputs(self, motions: MotionSet, *, batch: int = 32, workers: int = 1) -> Iterator[MotionBatch]:
        """All clips of a set in its order as ``network`` takes them, ``batch`` at a time, on ``device``:
        sampled, normalised, and in streams.

        Args:
            workers: as in :meth:`embed_set`.

        Raises:
            UnusableEncoderError, posecap.joints.LayoutError: as :meth:`embed`.
        """
        loader = Loader(
            motions,
            sampling=replace(self.sampling, draw="deterministic"),
            batching=Batching(size=batch, order="stored", last="keep"),
            workers=workers,
        )
        for clips in loader:
            # ``still`` has steps that change nothing at random; one that did would do it alike in every batch.
            generator = torch.Generator(self.device).manual_seed(0)
            yield self.taken(clips.to(self.device), self.views.still, generator)

    def project(self, vectors: ArrayLike) -> Floats:
        """phi_M of embeddings, the unit vectors that are compared with projected texts: (256,) to (width,), or (N, 256)
        to (N, width).

        Raises:
            UnusableEncoderError: there are no heads, or the vectors have another length, NaN or infinity.
        """
        return self._heads().project(vectors)

    def text_cosines(self, vectors: ArrayLike, text_vectors: ArrayLike) -> Floats:
        """cos(phi_M(E_M), phi_T(E_T)) of clips and texts, the zero-shot score: (N, K) float32.

        Args:
            vectors: (N, 256), what :meth:`embed` gave.
            text_vectors: (K, D), from the text model whose vectors it was trained with; or (K, P, D), each text in P
                wordings, whose cosines are averaged.

        Raises:
            UnusableEncoderError: there are no heads, the encoder was trained without text, or lengths differ.
        """
        return self._heads().text_cosines(vectors, text_vectors)

    def nearest_texts(
        self, vector: ArrayLike, *, texts: Sequence[str], text_vectors: ArrayLike
    ) -> list[tuple[str, float]]:
        """All texts with their cosines to one clip, the nearest first; texts of equal cosines in the order given.

        Args:
            vector: (256,), what :meth:`embed` gave.
            texts: K texts.
            text_vectors: as in :meth:`text_cosines`.

        Raises:
            UnusableEncoderError: as :meth:`text_cosines`, or there is not one vector for each text.
        """
        values = np.asarray(text_vectors, np.float32)
        if np.ndim(vector) != 1 or values.shape[:1] != (len(texts),):
            raise UnusableEncoderError(
                f"one embedding and a vector for each of {len(texts)} texts are needed, not {np.shape(vector)} and "
                f"{values.shape}"
            )
        cosines = self.text_cosines(vector, values)[0]
        return [(texts[index], float(cosines[index])) for index in np.argsort(-cosines, kind="stable")]

    def facts(self) -> dict[str, Any]:
        """What decides the embeddings, as JSON values, for the metadata of files; paths of data are left out."""
        config = None
        if self.config is not None:
            loop = {name: value for name, value in self.config["loop"].items() if name != "start_from"}
            config = {name: value for name, value in self.config.items() if name != "data"} | {"loop": loop}
        return {
            "checkpoint": {"name": self.path.name, "sha256": self.sha256, "of": self.of},
            "sampling": as_json(replace(self.sampling, draw="deterministic")),
            "still": as_json(self.views.still),
            "streams": list(self.views.streams),
            "config": config,
        } | ({} if self.onnx is None else {"onnx": dict(self.onnx)})

    def _heads(self) -> Heads:
        """``heads``, where there are any; else UnusableEncoderError."""
        if self.heads is None:
            raise UnusableEncoderError(
                f"{self.path} holds an encoder without projection heads, so it only gives embeddings; for projections "
                "and texts load a run of a method with heads, such as T-MOR"
            )
        return self.heads

    def taken(self, batch: MotionBatch, steps: Sequence[Augmentation], generator: torch.Generator) -> MotionBatch:
        """The clips after the augmentations ``steps``, as the streams that the encoder takes.

        Raises:
            UnusableEncoderError: the clips have another number of coordinates than the encoder takes.
        """
        found = streamed(augmented(batch, steps, generator), self.views.streams)
        channels, streams = found.motion_NCTVM.shape[1], len(self.views.streams)
        if channels != self.network.channels:
            raise UnusableEncoderError(
                f"the clips have {channels // streams} coordinates a joint, but the encoder of {self.path} takes "
                f"{self.network.channels // streams}; choose a run that was trained on such clips"
            )
        return found

    @torch.no_grad()
    def _features(self, batch: MotionBatch) -> Tensor:
        """E_M of a batch of :meth:`network_inputs`: (N, 256) float32."""
        with autocast_of(self.precision, self.device):
            return self.network.clip_features(batch.motion_NCTVM, batch.present).float()


ENCODER_KEY, SET_KEY = "tmor_train.encoder", "tmor_train.set"
_GROUP_ROWS = 16_384  # in a row group, and so in memory before they are written: 16 MiB of vectors


def embed_to_parquet(
    encoder: Pretrained,
    motions: MotionSet,
    path: Path,
    *,
    about: Mapping[str, Any],
    batch: int = 32,
    workers: int = 1,
    existing: Existing = "refuse",
) -> int:
    """Writes E_M of all clips of ``motions`` to the file ``path`` and returns the number of clips.

    Args:
        about: description of the set for the file's metadata, as JSON values; see :func:`identity`.
        batch: number of clips that are embedded at once, at least 1; embeddings of other batch sizes differ in the last
            bits.
        workers: threads that load clips; 0 loads them in this one.
        existing: what happens if ``path`` exists; see :func:`~posecap.files.atomic_path`.

    Raises:
        OutputExistsError: ``path`` exists, and ``existing`` is ``refuse``.
        UnusableEncoderError, posecap.joints.LayoutError: the encoder does not take such clips; no file is left.
        ValueError: ``batch`` is below 1.
    """
    if batch < 1:
        raise ValueError(f"batch is at least 1, not {batch}")
    schema = _schema({ENCODER_KEY: {**encoder.facts(), "batch": batch}, SET_KEY: about})
    progress = Progress(steps=-(-len(motions) // batch))
    with (
        atomic_path(path, existing=existing) as part,
        pq.ParquetWriter(part, schema, compression="zstd", use_dictionary=["label", "split"]) as writer,
    ):
        held: list[pa.RecordBatch] = []
        for index_N, vectors_ND in encoder.embed_set(motions, batch=batch, workers=workers):
            held.append(_rows(motions, index_N, vectors_ND, schema))
            if sum(map(len, held)) >= _GROUP_ROWS:
                _write(writer, held)
                held = []
            progress.step(clips=len(index_N), waited=0.0, words="embedding")
        _write(writer, held)
    return len(motions)


def identity(config: DataConfig, motions: MotionSet) -> dict[str, Any]:
    """What a set is, as JSON values: the names it was configured by, its number of clips, and the SHA-256 of their
    keys.

    The folders in which its files are stored are not part of it.
    """
    return {
        "shards": [Path(location.rstrip("/")).name for location in config.shards],
        "sets": list(config.sets),
        "split": config.split,
        "clips": len(motions),
        "keys_sha256": fingerprint(motions),
    }


def _schema(metadata: Mapping[str, object]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("label", pa.string()),
            pa.field("split", pa.string(), nullable=False),
            pa.field(
                "embedding", pa.list_(pa.field("element", pa.float32(), nullable=False), FEATURES), nullable=False
            ),
        ],
        metadata={name: json.dumps(value, sort_keys=True) for name, value in metadata.items()},
    )


def _rows(motions: MotionSet, index_N: Numbers, vectors_ND: Floats, schema: pa.Schema) -> pa.RecordBatch:
    clips = motions.clips
    labels = [motions.classes[label] if label >= 0 else None for label in clips.label_N[index_N].tolist()]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), type=schema.field("embedding").type)
    keys, splits = clips.key_N[index_N].tolist(), clips.split_N[index_N].tolist()
    columns = [pa.array(keys, pa.string()), pa.array(labels, pa.string()), pa.array(splits, pa.string()), embedding]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _write(writer: pq.ParquetWriter, held: Iterable[pa.RecordBatch]) -> None:
    """Writes all rows of ``held`` as one row group."""
    table = pa.Table.from_batches(held, schema=writer.schema)
    if len(table):
        writer.write_table(table.combine_chunks(), row_group_size=len(table))


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


__all__ = ["Pretrained", "UnusableEncoderError", "embed_to_parquet", "identity", "load"]
