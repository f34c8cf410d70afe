"""Detects people with YOLO of the ultralytics package, and their COCO-17 joints where the model is a pose model; tracks
the people of any detector with its ByteTrack or BoT-SORT.

Frames go through the package's own letterbox, network and non-maximum suppression, so that boxes are those of its
``predict``; so they do with YOLO26, whose other head, which needs no suppression, ``predict`` takes only when asked
for it. Weights do not go through the package's loader: a published file is a pickled network, and unpickling
runs whatever the file names. Here the network is built from the package's own description of the architecture, and
only tensors come from the file.

Both trackers match by boxes alone. BoT-SORT (Aharon et al., 2022) also compensates for the camera's motion, which it
estimates from background points in two consecutive frames. It is used without its appearance model, so neither of the
two has weights.

The package is AGPL-3.0, and so are its weights.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from posecap.inference.device import Batches, Device, Precision, torch_device, torch_dtype
from posecap.inference.package_compat import ensure_ultralytics
from posecap.interfaces import Detections
from posecap.models import locate
from posecap.skeletons import tracks_of
from posecap.stage import Engine
from posecap.types import Pixels, Seconds, Tracks
from posecap.weights import checkpoints
from posecap.weights.checkpoints import CheckpointError, WrongArchitectureError
from posecap.weights.unpickle import Inert

if TYPE_CHECKING:
    import torch


_ARCHITECTURE = re.compile(r"yolo(?P<family>11|26|v8)(?P<scale>[nsmlx])(?P<pose>-pose)?")
_STRIDE = 32
"""Pixels of the input for one cell of the network's coarsest level."""
_JOINTS = (17, 3)
"""Of a row of a pose model: COCO-17, each x, y and score."""
_PERSON = "person"
"""Name of the class in COCO, and so in every published model."""
_MOST_CLASSES = 10_000
"""A bound, as the list comes from a file that may be hostile, and the network is built for its length."""

# Attributes of a layer that its output depends on and that its tensors' shapes do not determine.
_SHAPING = ("f", "stride", "padding", "dilation", "groups", "kernel_size", "eps", "add", "d", "scale_factor", "mode")


@dataclass(frozen=True)
class _Model:
    """A network ready to run, how many classes it tells apart, and which of them is the person."""

    network: torch.nn.Module
    device: torch.device
    dtype: torch.dtype
    classes: int
    person: int


@dataclass(frozen=True)
class Ultralytics(Engine):
    """Detects people, and with a pose model their joints, in every frame.

    Args:
        weights_from: name in the registry, or path of a ``.pt`` file as the package publishes or trains them.
        architecture: ``yolo26``, ``yolo11`` or ``yolov8``, then the size ``n``, ``s``, ``m``, ``l`` or ``x``, then
            ``-pose`` for one with joints, such as ``yolo11m-pose``; empty where the weights' name says it.
        conf: people with a lower score, in [0, 1], are left out.
        iou: intersection over union above which the weaker of two boxes is a duplicate.
        imgsz: longer side of the network's input in pixels, a multiple of 32; frames are scaled to it, up or down.
        max_det: most people of a frame; those with the highest scores are kept.
        batch: most frames computed at once; halved when memory runs out.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where it has one
            (:func:`posecap.inference.device.torch_device`).
        precision: what the network's body computes in: ``fp32``, ``bf16``, or ``auto``, which is bf16 on a GPU; boxes
            and joints are decoded in float32 in any case.

    Defaults of ``conf``, ``iou`` and ``imgsz`` are the package's own; the others are our choices.

    Raises:
        ValueError: no such architecture, a size that is not a multiple of 32, or no frames or people at all.
    """

    packages: ClassVar[tuple[str, ...]] = ("ultralytics", "torch", "torchvision", "opencv-python")
    extra: ClassVar[str] = "ultralytics"
    modules: ClassVar[tuple[str, ...]] = ("ultralytics", "torchvision")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    weights_from: str = "yolo11m"
    architecture: str = ""
    conf: float = 0.25
    iou: float = 0.7
    imgsz: int = 640
    max_det: int = 100
    batch: int = 16
    device: Device = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if not _ARCHITECTURE.fullmatch(self._architecture):
            raise ValueError(
                f"cannot tell the architecture of {self.weights_from!r} from {self._architecture!r}: "
                "give architecture='yolo11m-pose' or the like: yolo26, yolo11 or yolov8; n, s, m, l or x; with or "
                "without -pose"
            )
        if self.imgsz < _STRIDE or self.imgsz % _STRIDE:
            raise ValueError(f"imgsz is {self.imgsz}, expected a multiple of {_STRIDE}")
        if min(self.batch, self.max_det) < 1:
            raise ValueError(f"batch is {self.batch} and max_det {self.max_det}, expected at least 1 of both")

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"ultralytics-{self._architecture}"

    @property
    def layout(self) -> str | None:
        """``coco17`` for pose models, None for those that only give boxes."""
        return "coco17" if self._architecture.endswith("-pose") else None

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from,)

    def load(self) -> None:
        _ = self._model

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first; boxes and joints in pixels of the given frames, cut off at their edges.

        Raises:
            MissingWeightsError, CheckpointError: as :mod:`posecap.models` and :mod:`posecap.weights.checkpoints` say.
            ModuleNotFoundError: the package is not installed.
            TransientError: not even one frame fits in memory.
        """
        _ = self._model  # before anything of the package is imported: it prepares the package
        from ultralytics.data.augment import LetterBox

        # Scaled to the network's size and padded with grey to multiples of the stride. Every thread does this for its
        # own frames; only the network is run by one thread at a time.
        fit = LetterBox((self.imgsz, self.imgsz), auto=True, stride=_STRIDE)
        fitted = [fit(image=frame) for frame in frames_THW3]
        # Not run_together: frames of other clips may have another shape, and a batch has one.
        return self._batches.run(lambda batch: self._people(batch, frames_THW3.shape[1:]), fitted)

    @property
    def _architecture(self) -> str:
        return self.architecture or Path(self.weights_from).stem

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self.batch)

    @cached_property
    def _model(self) -> _Model:
        ensure_ultralytics()
        device = torch_device(self.device)
        dtype = torch_dtype(self.precision, device)
        path = locate(self.weights_from)
        record = _network_in(path)
        names = _class_names(record, path)
        network = _build(self._architecture, len(names))
        checkpoints.load_into(network, checkpoints.module_tensors(record), path=path)
        _agree(record, network, path)
        return _Model(_ready(network, device, dtype), device, dtype, len(names), names.index(_PERSON))

    def _people(self, fitted: Sequence[Pixels], frame_shape: tuple[int, ...]) -> list[Detections]:
        """The people of each fitted frame; ``frame_shape`` (H, W, 3) is that before they were fitted."""
        model = self._model
        import torch
        from ultralytics.utils.nms import non_max_suppression

        with torch.inference_mode():
            # Contiguous, as the package's own predictor gives it: another memory format may sum in another order.
            pixels = torch.from_numpy(np.stack(fitted)).to(model.device).permute(0, 3, 1, 2).contiguous()
            pixels = pixels.float().div_(255).to(model.dtype)  # (B, 3, H, W) RGB in [0, 1]
            found = non_max_suppression(
                model.network(pixels)[0],
                self.conf,
                self.iou,
                classes=[model.person],
                max_det=self.max_det,
                nc=model.classes,
                max_time_img=float("inf"),  # the package stops after some seconds, with whatever it has by then
            )
            return [_detections(rows, pixels.shape[2:], frame_shape, self.layout) for rows in found]


def _detections(
    rows: torch.Tensor, shape: Sequence[int], frame_shape: tuple[int, ...], layout: str | None
) -> Detections:
    """From (N, 6 + 51) rows in pixels of the network's input: box, score, class, joints."""
    from ultralytics.utils.ops import scale_boxes, scale_coords

    rows = rows.cpu()  # one transfer instead of three: each waits for the GPU
    boxes = scale_boxes(shape, rows[:, :4], frame_shape)
    joints = scale_coords(shape, rows[:, 6:].reshape(-1, *_JOINTS), frame_shape) if layout else None
    return Detections(
        boxes_N4=boxes.numpy(), scores_N=rows[:, 4].numpy(), joints_NJ3=None if joints is None else joints.numpy()
    )


def _network_in(path: Path) -> Inert:
    """The network's record in a published file: the averaged weights where training left them, else the plain ones."""
    content = checkpoints.load(path, unknown_classes="inert")
    if isinstance(content, dict):
        for key in ("ema", "model"):
            if isinstance(record := content.get(key), Inert):
                return record
    raise CheckpointError(f"{path}: holds no network of the ultralytics package; give a .pt file as it publishes them")


def _class_names(record: Inert, path: Path) -> list[str]:
    """The names of the network's classes, in their order.

    Raises:
        CheckpointError: it has none, or (``WrongArchitectureError``) none of them is a person.
    """
    names = record.state.get("names") if isinstance(record.state, dict) else None
    known = list(names.values()) if isinstance(names, dict) and list(names) == list(range(len(names))) else names
    if (
        not isinstance(known, list)
        or not 1 <= len(known) <= _MOST_CLASSES
        or not all(isinstance(n, str) for n in known)
    ):
        raise CheckpointError(f"{path}: the network does not name its classes")
    if _PERSON not in known:
        raise WrongArchitectureError(f"{path}: none of the network's {len(known)} classes is {_PERSON!r}")
    return known


def _build(architecture: str, classes: int) -> torch.nn.Module:
    """The untrained network. Its description comes from the package, never from a checkpoint: layers are looked up
    by name and arguments evaluated while it is read."""
    import ultralytics
    import yaml
    from ultralytics.nn.tasks import DetectionModel, PoseModel

    if (match := _ARCHITECTURE.fullmatch(architecture)) is None:
        raise ValueError(f"{architecture!r} is not an architecture that this engine knows")
    family, pose = match["family"], match["pose"] or ""
    described = Path(ultralytics.__file__).parent / "cfg" / "models" / family / f"yolo{family}{pose}.yaml"
    description = yaml.safe_load(described.read_text(encoding="utf-8"))
    description["scale"] = match["scale"]
    network: torch.nn.Module = (PoseModel if pose else DetectionModel)(description, nc=classes, verbose=False)
    return network


def _agree(record: Inert, network: torch.nn.Module, path: Path) -> None:
    """Compare the layers' attributes that tensors do not determine, such as activations and shortcuts.

    Args:
        record: the network in the file.
        network: the one that its tensors were loaded into.

    Raises:
        WrongArchitectureError: an attribute differs.
    """
    waiting: list[tuple[str, Inert, torch.nn.Module]] = [("", record, network)]
    while waiting:
        place, theirs, ours = waiting.pop()
        state: dict[str, Any] = theirs.state if isinstance(theirs.state, dict) else {}
        in_file = {"class": theirs.name.rpartition(".")[2]} | {key: state[key] for key in _SHAPING if key in state}
        built = {"class": type(ours).__name__} | {key: vars(ours)[key] for key in _SHAPING if key in vars(ours)}
        for key in in_file.keys() & built.keys():
            if not _same(in_file[key], built[key]):
                raise WrongArchitectureError(
                    f"{path}: {key} of layer {place or 'model'!r} is {in_file[key]!r}, but {built[key]!r} in the "
                    "architecture asked for; give the architecture that the file was trained with"
                )
        children = state.get("_modules")
        for name, child in children.items() if isinstance(children, dict) else ():
            if isinstance(child, Inert) and name in ours._modules:
                waiting.append((f"{place}.{name}".strip("."), child, ours.get_submodule(name)))


def _same(theirs: object, ours: object) -> bool:
    """Whether two plain values agree; values that are not plain, such as tensors, are not compared here."""
    values = [list(value) if isinstance(value, tuple) else value for value in (theirs, ours)]
    return not all(isinstance(value, int | float | str | list) for value in values) or values[0] == values[1]


def _ready(network: Any, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The network for inference: batch norms folded in, as the package does it, and channels last, as it does on x86.

    The head stays in float32: bfloat16 has eight significant bits, so coordinates above 256 would be whole pixels.
    """
    import torch

    network = network.eval().requires_grad_(False).fuse(verbose=False)
    network.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    head = network.model[-1].float()
    head.register_forward_pre_hook(lambda _, inputs: ([level.float() for level in inputs[0]],))
    ready: torch.nn.Module = network
    return ready


@dataclass(frozen=True)
class _UltralyticsTracker(Engine, ABC):
    """What both trackers share. Scores and overlaps (intersection over union) are in [0, 1].

    Args:
        track_high_thresh: detections with this score or more are matched first.
        track_low_thresh: detections with a higher score, below ``track_high_thresh``, may continue a track that was
            seen in the frame before.
        begin: unmatched detections with this score or more start a track, which counts once a detection of the next
            frame continues it, or at once in a clip's first frame. Both must also reach ``track_high_thresh``, so a
            lower value changes nothing.
        match_cost: highest cost of a match in the first round. The package fixes that of the second, which is by
            overlap alone, at 0.5, and that of continuing a track just started at 0.7.
        cost: what that cost is: 1 - overlap, or 1 - overlap * score.
        track_buffer_seconds: a track that is not seen for longer is closed. The package counts frames; their number
            follows from the clip's frame rate. 1 second is the package's 30 frames at 30 frames a second.
        fewest_frames: tracks seen in fewer frames are dropped.

    Defaults are the package's own (``bytetrack.yaml``, ``botsort.yaml``), but ``fewest_frames``, which it does not
    have: 3 is our choice, against detections that flicker.
    """

    packages: ClassVar[tuple[str, ...]] = ("ultralytics", "lap", "opencv-python")
    extra: ClassVar[str] = "ultralytics"
    modules: ClassVar[tuple[str, ...]] = ("ultralytics", "lap")
    thread_safe: ClassVar[bool] = True  # the package's tracker is made anew for every clip

    track_high_thresh: float = 0.25
    track_low_thresh: float = 0.1
    begin: float = 0.25
    match_cost: float = 0.8
    cost: Literal["overlap", "overlap and score"] = "overlap and score"
    track_buffer_seconds: float = 1.0
    fewest_frames: int = 3

    def load(self) -> None:
        """Import the package. Raises ModuleNotFoundError where it, or ``lap``, is not installed."""
        ensure_ultralytics("lap")

    def track(
        self, detections: Sequence[Detections], pts_T: Seconds, *, layout: str | None, frames_THW3: Pixels
    ) -> Tracks:
        """See :meth:`posecap.interfaces.Tracker.track`; boxes, scores and joints are those of the detections.

        Raises:
            ModuleNotFoundError: the package, or ``lap`` that it matches with, is not installed.
        """
        ensure_ultralytics("lap")
        from ultralytics.engine.results import Boxes

        tracker = self._tracker(self._settings(pts_T))
        seen: dict[int, dict[int, int]] = {}  # track id → frame → detection within that frame
        for t, (found, frame) in enumerate(zip(detections, frames_THW3, strict=True)):
            rows = np.zeros((len(found.scores_N), 6), np.float32)  # box, score, class: all of the same one
            rows[:, :4], rows[:, 4] = found.boxes_N4, found.scores_N
            blue_green_red = np.ascontiguousarray(frame[..., ::-1])
            for *_, identity, _score, _class, index in tracker.update(Boxes(rows, frame.shape[:2]), blue_green_red):
                seen.setdefault(int(identity), {})[t] = int(index)
        people = [track for track in seen.values() if len(track) >= self.fewest_frames]
        people.sort(key=lambda track: (-len(track), min(track)))
        return tracks_of(people, detections, layout)

    def _settings(self, pts_T: Seconds) -> SimpleNamespace:
        """The parameters by the package's own names."""
        interval = float(np.median(np.diff(pts_T))) if len(pts_T) > 1 else self.track_buffer_seconds
        return SimpleNamespace(
            track_high_thresh=self.track_high_thresh,
            track_low_thresh=self.track_low_thresh,
            new_track_thresh=self.begin,
            track_buffer=max(1, round(self.track_buffer_seconds / interval)) if interval > 0 else 1,
            match_thresh=self.match_cost,
            fuse_score=self.cost == "overlap and score",
        )

    @abstractmethod
    def _tracker(self, settings: SimpleNamespace) -> Any:
        """A new tracker of the package."""


@dataclass(frozen=True)
class UltralyticsByteTrack(_UltralyticsTracker):
    """ByteTrack (Zhang et al., ECCV 2022): detections of high score are matched first, then those of low score."""

    name: ClassVar[str] = "ultralytics-bytetrack"

    def _tracker(self, settings: SimpleNamespace) -> Any:
        from ultralytics.trackers.byte_tracker import BYTETracker

        return BYTETracker(settings)


@dataclass(frozen=True)
class UltralyticsBoTSORT(_UltralyticsTracker):
    """BoT-SORT without appearance: as ByteTrack, with width and height instead of aspect and height in the filter's
    state, and with the camera's motion subtracted.

    Args:
        camera: the method that estimates the camera's motion; ``sparseOptFlow`` is the package's default, ``none``
            ignores the camera.
    """

    name: ClassVar[str] = "ultralytics-botsort"

    camera: Literal["sparseOptFlow", "orb", "sift", "ecc", "none"] = "sparseOptFlow"

    def _tracker(self, settings: SimpleNamespace) -> Any:
        from ultralytics.trackers.bot_sort import BOTSORT

        # The package reads both thresholds even where it does not use them.
        appearance = {"with_reid": False, "proximity_thresh": 0.5, "appearance_thresh": 0.8}
        return BOTSORT(SimpleNamespace(**vars(settings), gmc_method=self.camera, **appearance))
