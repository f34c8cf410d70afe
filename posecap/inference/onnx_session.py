"""Networks in ONNX files through onnxruntime: on one CPU thread, or on the worker's GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecap.inference.batching import ran_out_of_memory
from posecap.inference.device import Device, NoSuchDevice
from posecap.types import Floats
from posecap.weights.checkpoints import BadCheckpoint, WrongArchitecture, refuse_random

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxNetwork:
    """One input of pictures, named outputs.

    Raises:
        BadCheckpoint: the file is damaged or no ONNX file, or (``WrongArchitecture``) has other outputs;
            ``RandomWeights`` as :func:`posecap.weights.checkpoints.refuse_random`.
        NoSuchDevice: ``cuda`` is asked for and onnxruntime has none.
    """

    def __init__(self, path: Path, *, outputs: Sequence[str], device: Device) -> None:
        self._path, self._outputs = path, list(outputs)
        self._session = _session(path, device)
        refuse_random(self._session.get_modelmeta().custom_metadata_map, path=path)
        found = [output.name for output in self._session.get_outputs()]
        inputs = self._session.get_inputs()
        if not set(outputs) <= set(found) or len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise WrongArchitecture(
                f"{path} takes {', '.join(i.name for i in inputs)} and gives {', '.join(found)}; expected one input of "
                f"pictures and the outputs {', '.join(outputs)}. Name the ONNX file of this very model"
            )
        self._input = inputs[0]

    @property
    def most(self) -> int | None:
        """Pictures that it takes at a time; None when any number."""
        size = self._input.shape[0]
        return size if isinstance(size, int) else None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its pictures.

        Raises:
            WrongArchitecture: it takes any size.
        """
        height, width = self._input.shape[2:]
        if not isinstance(height, int) or not isinstance(width, int):
            raise WrongArchitecture(f"{self._path} takes pictures of any size; name a file exported for one size")
        return height, width

    def run(self, pictures_N3HW: Floats) -> list[Any]:
        """Its outputs in the order asked for.

        Raises:
            MemoryError: memory was short, whatever onnxruntime calls it.
        """
        try:
            return list(self._session.run(self._outputs, {self._input.name: pictures_N3HW}))
        except Exception as error:  # onnxruntime's errors share no class but this one
            if ran_out_of_memory(RuntimeError(str(error))):
                raise MemoryError(str(error)) from None
            raise


def normalised(pictures_NHW3: np.ndarray[Any, Any], *, mean: Sequence[float], std: Sequence[float]) -> Floats:
    """(N, 3, H, W) float32: (x − mean) / std, channel by channel, in the channels' given order."""
    shifted = (pictures_NHW3.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(shifted.transpose(0, 3, 1, 2))


def _session(path: Path, device: Device) -> InferenceSession:
    import onnxruntime

    here = onnxruntime.get_available_providers()
    gpu = device != "cpu" and "CUDAExecutionProvider" in here
    if device == "cuda" and not gpu:
        raise NoSuchDevice(
            "the pipeline asks for device='cuda', but this onnxruntime computes on the CPU only: "
            "install onnxruntime-gpu instead of onnxruntime"
        )
    options = onnxruntime.SessionOptions()
    # One thread: every core already runs a worker of its own, and results do not depend on the machine.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    try:
        content = path.read_bytes()  # bytes rather than a path: they cannot refer to other files
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be opened: {error.strerror}") from error
    except Exception as error:  # as above
        raise BadCheckpoint(f"{path} cannot be read as ONNX: {error}. Fetch it again, or name another file") from error


__all__ = ["OnnxNetwork", "normalised"]
