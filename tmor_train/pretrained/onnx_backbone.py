"""An encoder that computes in ONNX Runtime what an exported file holds, on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tmor_train.backbones import Backbone
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.export import FORMAT, ExportError, check_export


class OnnxBackbone(Backbone):
    """The features of an ONNX file of :func:`tmor_train.pretrained.export.export`, in place of ``encoder``'s network.

    ``sha256`` is the hash that the file carries, ``precision`` what it computes in. It runs on as many threads as torch
    may use when it is made, and gives features of clips alone, not of frames.

    Raises:
        FileNotFoundError: there is no such file.
        ExportError: the file is damaged or none of :func:`~tmor_train.pretrained.export.export`, it is of another
            checkpoint or another of its encoders, its clips have other numbers of frames or people, or onnxruntime is
            not installed.
    """

    def __init__(self, path: Path, encoder: Pretrained) -> None:
        network = encoder.network
        super().__init__(joints=network.joints, channels=network.channels, classes=None, people=network.people)
        self.sha256 = check_export(path)
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ExportError("onnxruntime is needed to run it: pip install 'posecap[train]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        facts = self._session.get_modelmeta().custom_metadata_map
        if facts.get("format") != FORMAT:
            raise ExportError(f"{path} is none of tmor_train's files, {FORMAT}")
        self.precision = facts.get("precision", "float32")
        made_of, wanted = json.loads(facts["checkpoint"]), encoder.facts()["checkpoint"]
        if (made_of["sha256"], made_of["of"]) != (wanted["sha256"], wanted["of"]):
            raise ExportError(
                f"{path} is of the checkpoint with the SHA-256 {made_of['sha256'][:12]} ({made_of['of']}), not of "
                f"{encoder.path} with {wanted['sha256'][:12]} ({wanted['of']}); export that one"
            )
        sizes, sampling = (int(facts["frames"]), int(facts["persons"])), encoder.sampling
        if sizes != (sampling.frames, sampling.people):
            raise ExportError(
                f"{path} is for clips of {sizes[0]} frames and {sizes[1]} people, the checkpoint for {sampling.frames} "
                f"and {sampling.people}; export it without --frames and --persons"
            )

    def joint_features(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError: the file gives features of clips."""
        raise NotImplementedError("an ONNX file gives features of clips; load the checkpoint without it")

    def clip_features(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """As :meth:`Backbone.clip_features`, of ``present`` (N, M, T) or of a file that takes none."""
        given = {"motion": np.ascontiguousarray(x.numpy())}
        if self.people == "masked_mean" and present is not None:
            given["present"] = present.float().numpy()
        return torch.from_numpy(self._session.run(["features"], given)[0])
