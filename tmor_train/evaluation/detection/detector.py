"""A detector of the actions of each frame: windows of recordings, an encoder's features of their frames, a head on
them, and its logits interpolated to the frames' own rate.

Also here: the mean of windows' scores over each recording; a detector's losses, means over the frames that are not
padding; its training; and what adapts an encoder to another kind of skeleton, by projecting the joints to two
dimensions or by copying weights into a new encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES, STRIDE, Backbone
from tmor_train.backbones.unik import UNIK
from tmor_train.benchmarks import Recordings
from tmor_train.configuration import from_json
from tmor_train.data import Loader, MotionSet, Sampling
from tmor_train.data.augment import Augmentation, Project
from tmor_train.data.batch import people_of
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data.loader import permutation
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.detection.config import DetectorConfig, TransferConfig, WindowConfig
from tmor_train.evaluation.detection.heads import DETECTION_HEADS
from tmor_train.evaluation.trainer import Trainer
from tmor_train.pretrained.encoder import Pretrained, UnusableEncoderError
from tmor_train.training.distributed import autocast_of


def windows(frames: int, config: WindowConfig) -> tuple[tuple[int, int], ...]:
    """(begin, end), in frames and end excluded, of the windows that cover a recording of ``frames`` frames, in order.

    Raises:
        ValueError: there is no frame.
    """
    if frames < 1:
        raise ValueError("a recording without frames cannot be cut into windows")
    length, step = config.length, config.stride or config.length
    count = 1 + max(0, -(-(frames - length) // step))
    found = [(n * step, min(n * step + length, frames)) for n in range(count)]
    if config.last == "shifted":  # only recordings shorter than ``length`` have a shorter window
        found[-1] = (max(0, frames - length), frames)
    return tuple(found)


def averaged(scores: Iterable[tuple[int, Floats]], *, frames: int) -> Floats:
    """The mean score of each of ``frames`` frames over all windows that hold it: (T, K) float32.

    ``scores`` has, for each window, its first frame and its scores (length, K).

    Raises:
        ValueError: a frame lies in no window, or a window goes beyond the recording.
    """
    total: Floats | None = None
    count_T = np.zeros(frames, np.int64)
    for begin, score in scores:
        if begin < 0 or begin + len(score) > frames:
            raise ValueError(f"frames {begin} to {begin + len(score)} lie outside a recording of {frames}")
        if total is None:
            total = np.zeros((frames, score.shape[1]), np.float32)
        total[begin : begin + len(score)] += score
        count_T[begin : begin + len(score)] += 1
    if total is None or not count_T.all():
        raise ValueError(f"{int((count_T == 0).sum())} of {frames} frames lie in no window")
    mean: Floats = (total / count_T[:, None]).astype(np.float32)
    return mean


class RecordingWindows(Loader):
    """The W windows of some recordings, numbered in their order; ``gather`` makes a batch of some of them.

    Frames keep their rate, and coordinates are scaled as ``sampling`` says, window by window. The people shown are
    those of the whole recording. Windows of a batch have the frames of its longest; those after the end of a shorter
    one are absent. ``recording_W``, ``begin_W`` and ``length_W`` (frames) are int64.
    """

    def __init__(self, recordings: Recordings, *, sampling: Sampling, config: WindowConfig) -> None:
        cut = [
            (number, begin, end - begin)
            for number, frames in enumerate(recordings.motions.clips.frames_N.tolist())
            for begin, end in windows(frames, config)
        ]
        self.recording_W, self.begin_W, self.length_W = np.array(cut, np.int64).reshape(-1, 3).T
        self.recordings, self.config = recordings, config
        seen = replace(sampling, frames=config.length, choice="window", draw="deterministic", padding="zero")
        super().__init__(recordings.motions.select(self.recording_W), sampling=seen, workers=0)

    def labels(self, index_N: Numbers) -> torch.Tensor:
        """Which classes each frame of some windows has: (N, T, K) bool, no class after a window's end."""
        classes, longest = len(self.recordings.classes), int(self.length_W[index_N].max())
        label_NTK = np.zeros((len(index_N), longest, classes), np.bool_)
        for row, number in enumerate(index_N.tolist()):
            begin, length = int(self.begin_W[number]), int(self.length_W[number])
            packed = self._packed[int(self.recording_W[number])][begin : begin + length]
            label_NTK[row, :length] = np.unpackbits(packed, axis=1, count=classes)
        return torch.from_numpy(label_NTK)

    def alike(self, *, batch: int) -> list[Numbers]:
        """All windows in batches whose windows are of one length, so that nothing is padded."""
        found: list[Numbers] = []
        for length in np.unique(self.length_W).tolist():
            members = np.flatnonzero(self.length_W == length)
            found += np.split(members, range(batch, len(members), batch))
        return found

    @cached_property
    def _packed(self) -> list[NDArray[np.uint8]]:
        """The labels of each recording, eight classes a byte: those of an hour-long set fit into memory then."""
        return [np.packbits(self.recordings.labels(number), axis=1) for number in range(len(self.recordings.motions))]

    @cached_property
    def _people(self) -> Numbers:
        rank = self.sampling.rank
        people = people_of(self.recordings.motions, most=rank + self.sampling.people, by=self.sampling.by)
        return people[self.recording_W, rank:]

    def _frames(self, index_N: Numbers, epoch: int) -> Numbers:
        step_T = np.arange(int(self.length_W[index_N].max()))
        inside = step_T < self.length_W[index_N][:, None]
        return np.where(inside, self.begin_W[index_N][:, None] + step_T, -1)


_ORDER = 3  # purpose of random numbers: the order of windows


def frame_bce(logits_NKT: Tensor, label_NTK: Tensor, valid_NT: Tensor) -> Tensor:
    """Binary cross-entropy summed over classes and valid frames, divided by the number of valid frames.

    L = 1/|V| sum_{(n,t) in V} sum_k -[y log s(z) + (1 - y) log(1 - s(z))] with V the valid frames and s the sigmoid,
    which is K times the mean. UNIK's detector has the same, but also sums over padded frames.

    Args:
        logits_NKT: float; label_NTK: bool; valid_NT: bool, true for at least one frame.
    """
    one_NKT = functional.binary_cross_entropy_with_logits(
        logits_NKT, label_NTK.transpose(1, 2).to(logits_NKT.dtype), reduction="none"
    )
    return (one_NKT.sum(1) * valid_NT).sum() / valid_NT.sum()


def event_cross_entropy(logits_NKT: Tensor, label_NTK: Tensor, valid_NT: Tensor, *, background: float) -> Tensor:
    """Cross-entropy over K + 1 classes, background first, the mean over valid frames by the weight of their class.

    L = sum_V w(y) (-log softmax(z)_y) / sum_V w(y), with w(0) = ``background`` and 1 for every other class.

    Args:
        logits_NKT: float, with K + 1 classes; label_NTK: bool without background; valid_NT: bool.
    """
    class_NT = event_classes(label_NTK)
    one_NT = functional.cross_entropy(logits_NKT, class_NT, reduction="none")
    weight_NT = torch.where(class_NT == 0, background, 1.0) * valid_NT
    return (one_NT * weight_NT).sum() / weight_NT.sum()


def event_classes(label_NTK: Tensor) -> Tensor:
    """The class of each frame, (N, T) int64: 0 for background, else 1 + the index of its lowest true label."""
    return torch.where(label_NTK.any(-1), label_NTK.to(torch.uint8).argmax(-1) + 1, 0)


class Detector(nn.Module):
    """A copy of an encoder with a new head of ``classes`` outputs.

    The buffers ``mean`` and ``deviation``, (256, 1) float32, scale features before the head; at first they are 0 and 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: Pretrained, config: DetectorConfig, *, classes: int) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.trunk: Backbone = copy.deepcopy(encoder.network).requires_grad_(config.trains == "all")
        self.head = DETECTION_HEADS[config.head](classes)
        self.register_buffer("mean", torch.zeros(FEATURES, 1))
        self.register_buffer("deviation", torch.ones(FEATURES, 1))
        self.to(encoder.device)

    def features(
        self, windows: RecordingWindows, index_N: Numbers, steps: Sequence[Augmentation], generator: torch.Generator
    ) -> Tensor:
        """Features of the windows ``index_N`` after the augmentations ``steps``, persons pooled: (N, 256, T') float32.

        ``generator`` draws the augmentations.
        """
        batch = windows.gather(index_N).to(self.encoder.device)
        seen = self.encoder.taken(batch, (*self.encoder.views.still, *steps), generator)
        with autocast_of(self.config.precision, self.encoder.device):
            return self.trunk.pooled_frames(seen.motion_NCTVM, seen.present).float()

    def forward(self, features: Tensor, length_N: Sequence[int]) -> Tensor:
        """Logits of every frame, (N, K, T) with T the longest of ``length_N``; zeros after the end of shorter windows.

        Args:
            features: (N, 256, T'); those of a window of ``length`` frames are the first ceil(length / 4).
            length_N: the number of frames of each window.
        """
        own = torch.tensor([-(-length // STRIDE) for length in length_N], device=features.device)
        valid = torch.arange(features.shape[2], device=features.device) < own[:, None]
        coarse: Tensor = self.head((features - self.mean) / self.deviation, valid)
        logits = coarse.new_zeros(len(length_N), coarse.shape[1], max(length_N))
        for length in sorted(set(length_N)):
            rows = [row for row, other in enumerate(length_N) if other == length]
            # A feature frame stands for the centre of its four frames (of a T'-th of the window where its length is no
            # multiple of four, as in UNIK's detector); between centres, logits are linear.
            logits[rows, :, :length] = functional.interpolate(
                coarse[rows, :, : -(-length // STRIDE)], size=length, mode="linear", align_corners=False
            )
        return logits

    @torch.no_grad()
    def scale_to(self, features_W: Sequence[Tensor]) -> None:
        """Set ``mean`` and ``deviation`` to those over all frames of ``features_W``, (256, T') each. A feature that
        hardly varies, as in :func:`tmor_train.evaluation.clips.linear_probe.fitted`, keeps a deviation of 1."""
        count = sum(one.shape[1] for one in features_W)
        mean = torch.stack([one.double().sum(1) for one in features_W]).sum(0) / count
        squares = torch.stack([(one.double() - mean[:, None]).square().sum(1) for one in features_W]).sum(0)
        deviation = (squares / count).sqrt()
        deviation[deviation < 1e-6 * deviation.max().clamp(min=1e-12)] = 1.0
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(deviation[:, None])


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The mean loss, (), of logits (N, K, T), labels (N, T, K) bool and valid frames (N, T) bool."""


class DetectorTrainer(Trainer[Numbers]):
    """Trains a detector on batches of windows; a batch is an array of the windows' numbers.

    Args:
        kept: features (256, T') of each window, where the trunk does not change; None: each step computes them.
    """

    network: Detector
    stored_as, settings = "detector", "train"

    def __init__(
        self, detector: Detector, windows: RecordingWindows, kept: Sequence[Tensor] | None, *, loss: Loss, seed: int
    ) -> None:
        self.windows, self.kept, self._loss = windows, kept, loss
        trunk = [parameter for parameter in detector.trunk.parameters() if parameter.requires_grad]
        head, device = list(detector.head.parameters()), detector.encoder.device
        super().__init__(detector, detector.config, head=head, trunk=trunk, device=device, seed=seed)

    def loss(self, batch: Numbers) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss over the valid frames of a batch's windows; no other values are logged."""
        detector, windows = self.network, self.windows
        detector.head.train()
        detector.trunk.train(detector.config.statistics == "adapting")
        device = detector.encoder.device
        if self.kept is None:
            features = detector.features(windows, batch, detector.config.augment, self.generator)
        else:
            features = padded([self.kept[number] for number in batch.tolist()], device)
        length_N = windows.length_W[batch]
        valid_NT = torch.arange(int(length_N.max())) < torch.from_numpy(length_N)[:, None]
        logits_NKT = detector(features, length_N.tolist())
        return self._loss(logits_NKT, windows.labels(batch).to(device), valid_NT.to(device)), {}

    def train(self, folder: Path) -> Detector:
        """Train to the end, as :meth:`fit` does in ``folder``, with about ten lines and checkpoints; returns the
        detector in evaluation mode."""
        count, size, epochs = len(self.windows.length_W), self.network.config.batch, self.network.config.epochs

        def batches(epoch: int, first: int) -> list[Numbers]:
            return np.split(permutation(self.seed, epoch, _ORDER, count=count), range(size, count, size))[first:]

        per_epoch, counts = -(-count // size), {"windows": count}
        self.fit(batches, per_epoch=per_epoch, folder=folder, counts=counts, report_epochs=max(epochs // 10, 1))
        return self.network.eval()


def padded(features: Sequence[Tensor], device: torch.device) -> Tensor:
    """Features (256, T') of N windows as one tensor, zeros after the end of shorter ones: (N, 256, longest) float32."""
    joined = torch.zeros(len(features), FEATURES, max(one.shape[1] for one in features))
    for row, one in enumerate(features):
        joined[row, :, : one.shape[1]] = one
    return joined.to(device)


FLAT = Project(yaw=0.0, pitch=0.0, camera="orthographic")
"""Leaves depth out and keeps x and y; clips without depth are not changed."""


def adapted(
    encoder: Pretrained, config: TransferConfig, *, start: StartConfig, motions: MotionSet
) -> tuple[Pretrained, tuple[str, ...]]:
    """The encoder as recordings like ``motions`` need it, and a sentence for each change.

    ``project`` adds the projection on x and y to an encoder of two coordinates that was trained without one, where the
    recordings have depth; their joints become its layout as they are gathered. ``trunk`` is :func:`transplant_trunk`.

    Raises:
        UnusableEncoderError: ``trunk`` with released weights of another network than UNIK.
    """
    if config.how == "trunk":
        return transplant_trunk(encoder, config, start=start)
    streams = len(encoder.views.streams)
    flat = any(isinstance(step, Project) for step in encoder.views.still)
    if motions.dimensions == 3 and encoder.network.channels == 2 * streams and not flat:
        views = replace(encoder.views, still=(FLAT, *encoder.views.still))
        return replace(encoder, views=views), ("joints in space were projected on x and y",)
    return encoder, ()


def transplant_trunk(
    encoder: Pretrained, config: TransferConfig, *, start: StartConfig
) -> tuple[Pretrained, tuple[str, ...]]:
    """A new encoder of three coordinates with every weight of ``encoder`` whose name and shape fit, and a sentence on
    how many did.

    The other weights are drawn from torch's generator, which the caller seeds. The encoder's fixed augmentations are
    left out, since they are meant for joints in pictures.

    Raises:
        UnusableEncoderError: released weights of another network than UNIK, whose sizes are not known.
    """
    streams = encoder.views.streams
    shape = replace(_shape_of(encoder, start), channels=3 * len(streams))
    network = encoder_of(shape, layout=config.layout, persons=config.people)
    own, given = network.state_dict(), encoder.network.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    # The input's batch norm has statistics of each joint; in another layout these are other joints, even if as many.
    if encoder.sampling.layout != config.layout:
        fitting = {name: tensor for name, tensor in fitting.items() if not name.startswith("data_bn")}
    network.load_state_dict({**own, **fitting})
    moved = sum(fitting[name].numel() for name, _ in network.named_parameters() if name in fitting)
    total = sum(parameter.numel() for parameter in network.parameters())
    return (
        replace(
            encoder,
            network=network.to(encoder.device).eval().requires_grad_(False),
            heads=None,
            sampling=replace(encoder.sampling, layout=config.layout, people=config.people),
            views=replace(encoder.views, still=()),
        ),
        (f"{moved:,} of {total:,} weights of the encoder were taken over, the others are new",),
    )


def _shape_of(encoder: Pretrained, start: StartConfig) -> EncoderConfig:
    """The architecture of an encoder: from its run's configuration, from the one for new weights, or from the network;
    UnusableEncoderError where none says it."""
    if encoder.config is not None:
        return from_json(EncoderConfig, encoder.config["encoder"])
    if not encoder.sha256:
        return start.scratch.encoder
    if isinstance(encoder.network, UNIK):
        return EncoderConfig(tau=encoder.network.tau, heads=encoder.network.heads, people=encoder.network.people)
    raise UnusableEncoderError(
        f"{encoder.path} does not say which network it is, so its weights cannot be moved; set transfer.how=project"
    )
