"""Pre-training as a Ray Train settings: the same run as under torchrun, its processes started by a Ray cluster.

Ray places the processes, gives each its rank and joins them by torch.distributed (NCCL on GPUs, gloo on CPUs); from
there on each does what `tmor_train run` or `tmor_train resume` does under torchrun. The run's folder and the data lie
on storage that every node reaches by the same path, and tmor_train is installed on every node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import strftime
from typing import Any

from tmor_train.configuration import as_json, from_json
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.config import PretrainConfig
from tmor_train.training.pretrain import pretrain, resume
from tmor_train.training.runs import check_new

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

_OWN = "ray"  # Ray's own notes on a run, in the run's folder


class RayError(RuntimeError):
    """The cluster cannot run it, or a process failed; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """The processes to ask a cluster for.

    ``address``: of a running cluster (``auto`` finds the one of this machine), or ``local``, which starts Ray here for
    the time of the run. ``cpus``: for each process, threads of torch and of the loader included. Each process has a GPU
    of its own where the cluster has GPUs, unless ``loop.device`` is ``cpu``.
    """

    address: str = "auto"
    workers: int = 1
    cpus: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus < 1:
            raise RayError(f"workers and cpus are at least 1, not {self.workers} and {self.cpus}")


def pretrain_on_ray(config: PretrainConfig, folder: Path, job: RayJob) -> Path:
    """A new run in ``folder`` by the processes of ``job``; returns its last checkpoint.

    Weights are those that torchrun with as many processes on such devices gives. Ctrl-C ends the processes at once: the
    steps since the last checkpoint are lost.

    Raises:
        RunError: as :func:`tmor_train.training.pretrain.pretrain`, where that is known before the processes start.
        RayError: Ray Train is not installed, no such cluster, not enough CPUs or GPUs in it, or a process failed.
    """
    if not isinstance(config, PretrainConfig):
        raise RayError(f"only pre-training runs on Ray, not {type(config).__name__}; leave --ray out")
    check_new(folder)
    return _run({"config": as_json(config)}, folder, job, device=config.loop.device)


def resume_on_ray(folder: Path, job: RayJob) -> Path:
    """Resume the run in ``folder``, whoever began it; also with another number of processes.

    Raises:
        CheckpointError: no checkpoint there.
        RayError: as for :func:`pretrain_on_ray`.
    """
    _, content = Checkpoints(folder / "checkpoints").latest()
    return _run({}, folder, job, device=json.loads(content["config"])["loop"]["device"])


def _run(settings: dict[str, Any], folder: Path, job: RayJob, *, device: str) -> Path:
    folder = folder.absolute()
    with _cluster(job.address) as ray_train:
        from ray.train.torch import TorchConfig, TorchTrainer

        gpus = _gpus(job, device)
        trainer = TorchTrainer(
            _process,
            train_loop_config={**settings, "folder": str(folder), "from": str(Path.cwd())},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ray_train.ScalingConfig(
                num_workers=job.workers,
                use_gpu=bool(gpus),
                resources_per_worker={"CPU": job.cpus, **({"GPU": 1} if gpus else {})},
            ),
            # A name that is taken would make Ray continue its notes on the earlier job.
            run_config=ray_train.RunConfig(storage_path=str(folder / _OWN), name=strftime("%Y%m%dT%H%M%S")),
        )
        try:
            trainer.fit()
        except ray_train.TrainingFailedError as error:
            raise RayError(_reason(error)) from error
    path, _ = Checkpoints(folder / "checkpoints").latest()
    return path


def _process(settings: dict[str, Any]) -> None:
    """What each process does. Ray has set what torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK) and joined them."""
    here = Path(settings["from"])
    if here.is_dir():  # so that relative paths mean the same as for who started the run
        os.chdir(here)
    folder = Path(settings["folder"])
    if "config" in settings:
        pretrain(from_json(PretrainConfig, settings["config"]), folder)
    else:
        resume(folder)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connected to the cluster meanwhile, unless the caller already is; gives ray.train."""
    try:
        import ray
        import ray.train
    except ImportError as error:
        raise RayError(f'Ray Train is not installed ({error}): pip install "ray[train]>=2.51"') from error
    if ray.is_initialized():
        yield ray.train
        return
    try:
        ray.init(address=address)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RayError(f"no Ray cluster answers at {address!r}: {error}") from error
    try:
        yield ray.train
    finally:
        ray.shutdown()


def _gpus(job: RayJob, device: str) -> int:
    """GPUs that the processes take together: one each, or none.

    Raises:
        RayError: the cluster has not enough. Ray itself would wait for nodes that may never come.
    """
    import ray

    has = ray.cluster_resources()
    gpus = 0 if device == "cpu" or (device == "auto" and not has.get("GPU")) else job.workers
    for name, asked in (("CPU", job.workers * job.cpus), ("GPU", gpus)):
        if has.get(name, 0) < asked:
            raise RayError(
                f"{job.workers} processes need {asked} {name}s and the cluster has {has.get(name, 0):.0f}; ask for "
                "fewer, add nodes, or set loop.device=cpu"
            )
    return gpus


def _reason(error: Exception) -> str:
    """Which process failed first and why. Those that lost contact with it only say so; our own errors come first."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return str(error)
    rank = min(failures, key=lambda rank: (not type(failures[rank]).__module__.startswith("tmor_train."), rank))
    found = failures[rank]
    named = type(found).__module__.startswith(("tmor_train.", "posecap."))
    return f"process {rank}: {found if named else f'{type(found).__name__}: {found}'}"
