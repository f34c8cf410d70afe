"""Checkpoints in the Hugging Face hub's format: a folder with a configuration, safetensors and a processor's files."""

from __future__ import annotations

import json
import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecap.inference.device import ran_out_of_memory
from posecap.inference.package_compat import ensure_torchvision, extra
from posecap.models import MissingWeightsError
from posecap.weights.checkpoints import CheckpointError, WrongArchitectureError, open_safetensors, refuse_random

if TYPE_CHECKING:
    import torch

_SHAPING = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken"})
"""The kinds of files that a model's output depends on: weights, settings, tokenizers and chat templates."""
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt"})
"""Endings of weights that are pickles; they are named in messages and never read."""
_LARGEST_JSON = 64 * 1024**2
"""Bytes: our bound, far above what an index of weights or a file of settings takes, so that none fills memory."""


def is_path(name_or_folder: str) -> bool:
    """Whether it is the path of a folder (``/data/model``, ``./model``, ``~/model``) rather than a model's name."""
    return name_or_folder.startswith(("/", ".", "~"))


def find_folder(name_or_folder: str) -> Path:
    """The folder of a checkpoint: the one named, or the hub's own cached download of a model.

    Raises:
        MissingWeightsError: neither is on this machine; nothing is downloaded.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    if not is_path(name_or_folder) and (cached := _cached(name_or_folder)) is not None:
        return cached
    fetch = "NAME --local-dir " + name_or_folder if is_path(name_or_folder) else name_or_folder
    raise MissingWeightsError(
        f"no checkpoint at {name_or_folder!r}. Put the model's config.json, its *.safetensors files, its tokenizer "
        f"and its processor's files there, for instance with `hf download {fetch}`; the build itself downloads none"
    )


def files_of(folder: Path) -> list[Path]:
    """The files of the folder that a model's output depends on, sorted by name; no read-me files or pictures."""
    return sorted(path for path in folder.iterdir() if path.suffix in _SHAPING and path.is_file())


def weights_of(checkpoint: str) -> tuple[str, ...]:
    """Paths of all files of a checkpoint that a model's output depends on; raises as :func:`find_folder`."""
    return tuple(str(path) for path in files_of(find_folder(checkpoint)))


def check_weights(folder: Path) -> None:
    """Check that the weights are complete and safe to load, before anything loads them.

    Raises:
        MissingWeightsError: a file is missing.
        CheckpointError: there are only pickled weights, a file is cut off, or the index leads out of the folder.
        RandomWeightsError: made for tests.
    """
    if not (folder / "config.json").is_file():
        raise MissingWeightsError(
            f"{folder} has no config.json: it is not a checkpoint in the hub's format; download it again"
        )
    refuse_random(_read(folder / "config.json"), path=folder)
    if (folder / "generation_config.json").is_file():
        _read(folder / "generation_config.json")  # transformers would ignore a broken one without a message
    shards = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        _check_index(index, {shard.name for shard in shards})
    if not shards:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
        if pickled:
            raise CheckpointError(
                f"{folder} holds its weights as a pickle ({pickled[0]}), which could run code; it is not read. "
                "Most models have a safetensors version on the hub: download that one"
            )
        raise MissingWeightsError(f"{folder} holds no *.safetensors file: download the model's weights into it")
    for shard in shards:
        with open_safetensors(shard):
            pass


def import_transformers(extra_name: str) -> Any:
    """The package transformers, without a connection to the hub and with a torchvision that imports.

    Args:
        extra_name: the extra of posecap that brings it, for the message.

    Raises:
        ModuleNotFoundError: transformers or torchvision is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with extra(extra_name):
        ensure_torchvision()
        transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def read_part(what: str, auto: Any, folder: Path, **settings: Any) -> Any:
    """What one of transformers' Auto classes reads from the folder, with errors that name the remedy.

    Args:
        what: of the folder is read, in words for messages.
        auto: the class, whose ``from_pretrained`` is called.
        settings: further arguments of it.

    Raises:
        CheckpointError: a file is missing, cannot be read, or needs code that is not in transformers.
        ModuleNotFoundError: the model needs a package that is not installed.
    """
    try:
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{folder} needs more: pip install 'posecap[caption]', which has what any of transformers' models here "
            f"asks for ({shortened(error)})",
            name=error.name,
        ) from error
    except Exception as error:  # what a broken file makes of transformers' readers can be any of them
        if ran_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{folder}: transformers {version('transformers')} cannot read its {what} ({shortened(error)}). Download "
            "it again, or update transformers; code out of a checkpoint is never run"
        ) from error


def read_network(
    folder: Path, extra_name: str, *, auto: str, known: str, kind: str, device: torch.device, dtype: torch.dtype
) -> Any:
    """The network of a folder with its weights, in evaluation mode.

    Args:
        extra_name: as for :func:`import_transformers`.
        auto: the name of transformers' Auto class for it.
        known: the name of transformers' list of the configurations that this class takes.
        kind: of the network, in words for messages, as ``an object detector``.
        device, dtype: where its weights are put, and as what.

    Raises:
        MissingWeightsError, RandomWeightsError, ModuleNotFoundError: as :func:`check_weights` and
            :func:`import_transformers`.
        CheckpointError: as :func:`read_part`, or (:class:`WrongArchitectureError`) it is a network of another kind, or
            tensors are missing or of another shape.
    """
    check_weights(folder)
    transformers = import_transformers(extra_name)
    config = read_part("config.json", transformers.AutoConfig, folder)
    if type(config) not in getattr(transformers, known):
        raise WrongArchitectureError(
            f"{folder}: its model type {config.model_type!r} is not {kind} that transformers "
            f"{transformers.__version__} knows by itself; code out of a checkpoint is never run"
        )
    network, found = read_part(
        "weights",
        getattr(transformers, auto),
        folder,
        config=config,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, with a better message
        dtype=dtype,
    )
    refuse_misfits(found, folder)
    return network.to(device).eval()


def refuse_misfits(found: dict[str, Any], folder: Path) -> None:
    """Raise where transformers found tensors missing or of another shape, which it fills with random numbers.

    Args:
        found: the loading info that ``from_pretrained(output_loading_info=True)`` returns.

    Raises:
        WrongArchitectureError: tensors are missing, or of another shape than ``config.json`` says.
    """
    misfits = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if misfits:
        raise WrongArchitectureError(
            f"{folder}: {len(misfits)} tensors that its config.json asks for are not in its safetensors files, or of "
            f"another shape there ({', '.join(misfits[:3])} …): config and weights are of different models"
        )


def _check_index(index: Path, present: set[str]) -> None:
    """Check that every file that an index of weights names is ``present``, the names of those in the folder.

    Raises:
        CheckpointError: it names none, or one outside the folder.
        MissingWeightsError: one is missing.
    """
    named = _read(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise CheckpointError(f"{index} names no files of weights; download it again")
    for name in sorted(set(named.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index} names {name!r}, which is outside the folder")
        if name not in present:
            raise MissingWeightsError(f"{index.parent} lacks {name}, which {index.name} names: download it too")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object out of a file; CheckpointError for anything else."""
    if path.stat().st_size > _LARGEST_JSON:
        raise CheckpointError(f"{path} is too large for a file of settings")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings; download it again")
    return content


def _cached(name: str) -> Path | None:
    """The snapshot of a model in the hub's own cache, None where it is not there."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def shortened(error: Exception) -> str:
    """The error's message on one line of at most 300 characters: libraries' messages may be pages long."""
    return " ".join(str(error).split())[:300]
