"""Detects people's boxes with an object detector of transformers, from a checkpoint that the user names: RF-DETR, and
RT-DETR, D-FINE, LW-DETR, DETR, YOLOS and others that ``AutoModelForObjectDetection`` knows by itself.

RF-DETR nano to large (huggingface.co/Roboflow) are Apache-2.0, code and weights. Pre- and post-processing are those of
the checkpoint's own image processor. Weights are read from safetensors files only, and no code from the checkpoint is
run. (Robinson et al., "RF-DETR: Neural Architecture Search for Real-Time Detection Transformers", 2025.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posecap.inference.device import Batches, Device, Precision, ran_out_of_memory, torch_device, torch_dtype
from posecap.inference.hub_folder import (
    find_folder,
    import_transformers,
    is_path,
    read_network,
    read_part,
    shortened,
    weights_of,
)
from posecap.interfaces import Detections
from posecap.stage import Engine
from posecap.types import Pixels
from posecap.weights.checkpoints import WrongArchitectureError

_PERSON = "person"
"""Name of the class in COCO, and so in published detectors; capitals do not count."""


@dataclass(frozen=True, kw_only=True)
class TransformersDetector(Engine):
    """Detects the people of each frame.

    Args:
        checkpoint: a folder in the hub's format (``config.json``, ``*.safetensors``, ``preprocessor_config.json``), or
            the hub name of a model that was downloaded with ``hf download NAME``, such as ``Roboflow/rf-detr-medium``.
            The build itself downloads nothing.
        conf: people with a score not above this, in [0, 1], are left out.
        max_det: most people of a frame; those with the highest scores are kept.
        batch: most frames at a time; halved when memory runs out.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where it has one
            (:func:`posecap.inference.device.torch_device`).
        precision: what the network computes in: ``fp32``, ``bf16``, or ``auto``, which is bf16 on a GPU. In bfloat16
            boxes are exact to about a 250th of the frame.

    ``conf``, ``max_det`` and ``batch`` are free choices.

    Raises:
        ValueError: there is no checkpoint, or ``max_det`` or ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "torchvision")
    extra: ClassVar[str] = "transformers"
    modules: ClassVar[tuple[str, ...]] = ("transformers", "torchvision", "safetensors")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("checkpoint",)

    checkpoint: str
    conf: float = 0.3
    max_det: int = 100
    batch: int = 8
    device: Device = "auto"
    precision: Precision = "fp32"
    layout: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.checkpoint or min(self.max_det, self.batch) < 1:
            raise ValueError(f"TransformersDetector needs a checkpoint, and max_det and batch of 1 or more; got {self}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the model: ``transformers:Org/Model``. Holds no folder's path."""
        return f"transformers:{Path(self.checkpoint).name if is_path(self.checkpoint) else self.checkpoint}"

    @property
    def weights(self) -> tuple[str, ...]:
        """Paths of all files of the checkpoint that a detection depends on.

        Raises:
            MissingWeightsError: the checkpoint is not on this machine.
        """
        return weights_of(self.checkpoint)

    def load(self) -> None:
        """Load the model, and see that it takes frames and gives boxes.

        Raises:
            WrongArchitectureError: it does not, it is no object detector, or it knows no people.
            MissingWeightsError: the checkpoint is not on this machine.
            CheckpointError: it is damaged, or holds its weights as a pickle.
            ModuleNotFoundError: transformers is not installed.
        """
        _ = self._network, self._processor, self._person
        try:  # a small black frame, so that a build ends here rather than in its first clip
            self._people([np.zeros((32, 48, 3), np.uint8)])
        except Exception as error:
            if ran_out_of_memory(error):
                raise
            raise WrongArchitectureError(
                f"{self.checkpoint}: network and image processor do not go together ({shortened(error)}); use a "
                "checkpoint whose preprocessor_config.json is its own"
            ) from error

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first; boxes in pixels of the given frames, cut off at their edges.

        Raises:
            MissingWeightsError, CheckpointError: as :meth:`load`.
            TransientError: ``out_of_memory`` when not even one frame fits.
        """
        # Not run_together: frames of other clips may have another shape, and a batch has one.
        return self._batches.run(self._people, list(frames_THW3))

    def _people(self, frames: Sequence[Pixels]) -> list[Detections]:
        """The people of each frame; all frames have one shape."""
        import torch

        network, shape = self._network, frames[0].shape[:2]
        inputs = self._processor(images=list(frames), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            outputs = network(
                **{
                    key: value.to(network.device, network.dtype if value.is_floating_point() else None)
                    for key, value in inputs.items()
                    if isinstance(value, torch.Tensor)
                }
            )
            outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
            found = self._processor.post_process_object_detection(
                outputs, threshold=self.conf, target_sizes=[shape] * len(frames)
            )
        return [self._kept(one, shape) for one in found]

    def _kept(self, found: dict[str, Any], shape: tuple[int, ...]) -> Detections:
        """The people among what the processor found in one frame of ``shape`` (H, W)."""
        labels, scores, boxes = (found[key].cpu().numpy() for key in ("labels", "scores", "boxes"))
        boxes = np.clip(boxes, 0, np.array([shape[1], shape[0]] * 2, np.float32))
        people = np.flatnonzero((labels == self._person) & (boxes[:, 2:] > boxes[:, :2]).all(-1))
        people = people[np.argsort(-scores[people], kind="stable")][: self.max_det]
        return Detections(boxes_N4=boxes[people].astype(np.float32), scores_N=scores[people].astype(np.float32))

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self.batch)

    @cached_property
    def _person(self) -> int:
        """The number of the class.

        Raises:
            WrongArchitectureError: there is none.
        """
        names = self._network.config.id2label
        numbers = [number for number, name in names.items() if str(name).lower() == _PERSON]
        if len(numbers) != 1:
            raise WrongArchitectureError(
                f"{self.checkpoint}: {len(numbers)} of its {len(names)} classes are named {_PERSON!r}, expected one; "
                "name the classes in id2label of its config.json, or use a detector that was trained for people"
            )
        return int(numbers[0])

    @cached_property
    def _processor(self) -> Any:
        """What turns frames into the network's input, and its output into boxes."""
        folder = find_folder(self.checkpoint)
        processor = read_part("image processor", import_transformers(self.extra).AutoImageProcessor, folder)
        if not hasattr(processor, "post_process_object_detection"):
            raise WrongArchitectureError(f"{folder}: its image processor is not that of an object detector")
        return processor

    @cached_property
    def _network(self) -> Any:
        """The network with its weights, in evaluation mode, on the device."""
        device = torch_device(self.device)
        return read_network(
            find_folder(self.checkpoint),
            self.extra,
            auto="AutoModelForObjectDetection",
            known="MODEL_FOR_OBJECT_DETECTION_MAPPING",
            kind="an object detector",
            device=device,
            dtype=torch_dtype(self.precision, device),
        )
