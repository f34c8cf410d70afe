"""A run as a folder: begun, or gone on with.

``config.json`` has every field, ``journal.jsonl`` what happened, ``checkpoints/`` the state and ``plots/`` the curves.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tmor_train.configuration import as_json, from_json
from tmor_train.data import MotionSet
from tmor_train.data_sources import fingerprint, motions_of
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.config import PretrainConfig
from tmor_train.training.distributed import distributed_context
from tmor_train.training.pretrain import Pretraining, RunError

CONFIG = "config.json"


def pretrain(config: PretrainConfig, folder: Path) -> Path:
    """A new run in ``folder``; returns its last checkpoint.

    Raises:
        RunError: the folder holds a run, the set is smaller than a batch or lacks what a loss needs, no checkpoint to
            start from is named, or a loss became NaN or infinite (its batch is saved in the folder).
    """
    distributed = distributed_context(config.loop.device)
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a run; go on with `tmor_train resume {folder}`, or choose another --output")
    if config.loop.start == "checkpoint" and config.loop.start_from is None:
        raise RunError(
            f"{config.recipe} goes on from another run's weights: say --from CHECKPOINT (a file or a run's folder), or "
            "--set loop.start=scratch"
        )
    motions = motions_of(config.data)
    config, notes = fitted(config, motions)
    training = Pretraining(config, folder, motions, distributed)
    for note in notes:
        training.log(note)
    if config.loop.start == "checkpoint" and config.loop.start_from is not None:
        path, content = checkpoint.found(Path(config.loop.start_from))
        heads = training.train_state.load_pretrained(content["learner"])
        training.log(f"begins with the encoder and {len(heads)} tensors of heads of {path}")
    distributed.barrier()  # all have seen that the folder holds no run
    if distributed.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(as_json(config), indent=2) + "\n")
    return training.fit("start")


def resume(folder: Path) -> Path:
    """Go on with the run in ``folder`` from its newest checkpoint, in the middle of an epoch too.

    Raises:
        RunError: no run there, or its data has changed.
        CheckpointError: no checkpoint there.
    """
    try:
        config = from_json(PretrainConfig, json.loads((folder / CONFIG).read_text()))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise RunError(f"{folder} holds no run ({CONFIG}): {error}") from error
    distributed = distributed_context(config.loop.device)
    path, content = Checkpoints(folder / "checkpoints").latest()
    motions = motions_of(config.data)
    if content["clips"] != fingerprint(motions):
        raise RunError("the data holds other clips than when the run began; a run goes on with the same ones")
    training = Pretraining(config, folder, motions, distributed)
    training.load_state_dict(content)
    training.log(f"goes on from {path}")
    return training.fit("resume")


def fitted(config: PretrainConfig, motions: MotionSet) -> tuple[PretrainConfig, list[str]]:
    """``config`` with a queue that suits the set, and what was changed in words.

    A queue of more than half of the clips holds mostly older keys of the anchors' own clips and cluster.
    """
    objective, half = config.objective, max(len(motions) // 2, 1)
    if objective.negatives != "queue" or objective.queue_size <= half:
        return config, []
    note = f"queue: {half:,} keys instead of {objective.queue_size:,}, half of the {len(motions):,} clips"
    return replace(config, objective=replace(objective, queue_size=half)), [note]


__all__ = ["CONFIG", "RunError", "fitted", "pretrain", "resume"]
