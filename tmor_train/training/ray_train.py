"""Pre-training as a Ray Train job: the same run as under torchrun, its processes started by a Ray cluster.

Ray places the processes, gives each its rank and joins them by torch.distributed (NCCL on GPUs, gloo on CPUs); from
there on each does what `tmor_train run` or `tmor_train resume` does under torchrun. The run's folder and the data lie
on storage that every node reaches by the same path, and tmor_train is installed on every node.
"""

from __future__ import annotations

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
from tmor_train.training.pretrain import newest_checkpoint, pretrain, resume
from tmor_train.training.runs import check_new, read_config

# Ray reads its environment when it is imported. Under `uv run` it would start its processes by `uv run`, too.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

_RAY_FOLDER = "ray"  # below the run's folder; Ray keeps its own state of the job there


class RayError(RuntimeError):
    """The cluster cannot run the job, or one of its processes failed; the message says what and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """The processes to ask a cluster for.

    ``address``: of a running cluster (``auto`` finds the one of this machine), or ``local``, which starts Ray here for
    the time of the run; it is not used where the caller has called ``ray.init``. ``workers``: number of processes.
    ``cpus``: CPUs reserved for each, which its threads of torch and of the loader share. With ``loop.device`` ``cpu``
    no process has a GPU; with ``auto`` each has one of its own if the cluster has any; with another device each has
    one.

    Raises:
        RayError: ``workers`` or ``cpus`` is below 1.
    """

    address: str = "auto"
    workers: int = 1
    cpus: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus < 1:
            raise RayError(f"workers and cpus are at least 1, not {self.workers} and {self.cpus}")


def pretrain_on_ray(config: PretrainConfig, folder: Path, job: RayJob) -> Path:
    """Train a new run in ``folder`` by the processes of ``job``; returns the path of its last checkpoint.

    The weights are the same as by torchrun with as many processes on the same kind of device. Ctrl-C ends the processes
    at once: the steps since the last checkpoint are lost.

    Raises:
        RunError: the folder holds a run.
        RayError: Ray Train is not installed, no such cluster, not enough CPUs or GPUs in it, ``config`` is not of
            pre-training, or a process failed, with the message of what
            :func:`tmor_train.training.pretrain.pretrain` raised there.
    """
    if not isinstance(config, PretrainConfig):
        raise RayError(f"only pre-training runs on Ray, not {type(config).__name__}; leave --ray out")
    check_new(folder)
    return _run({"config": as_json(config)}, folder, job, device=config.loop.device)


def resume_on_ray(folder: Path, job: RayJob) -> Path:
    """Resume the run in ``folder``, whether Ray or torchrun began it, also with another number of processes; returns
    the path of its last checkpoint.

    Raises:
        RunError: no run there.
        CheckpointError: its checkpoints cannot be read, or are gone.
        RayError: as for :func:`pretrain_on_ray`.
    """
    # The processes read both again. Read here, what is missing is an error before the cluster starts.
    config = from_json(PretrainConfig, read_config(folder))
    newest_checkpoint(folder)
    return _run({}, folder, job, device=config.loop.device)


def _run(settings: dict[str, Any], folder: Path, job: RayJob, *, device: str) -> Path:
    """Runs :func:`_process` with ``settings`` by the processes of ``job``; raises as :func:`pretrain_on_ray`."""
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
            # Under a name that is taken, Ray would restore the state of the earlier job.
            run_config=ray_train.RunConfig(storage_path=str(folder / _RAY_FOLDER), name=strftime("%Y%m%dT%H%M%S")),
        )
        try:
            trainer.fit()
        except ray_train.TrainingFailedError as error:
            raise RayError(_reason(error)) from error
    path, _ = Checkpoints(folder / "checkpoints").latest()
    return path


def _process(settings: dict[str, Any]) -> None:
    """What each process runs. Ray has set the variables that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK), and has
    connected the processes by torch.distributed. Each sees the GPUs of all of the job's processes on its node, as under
    torchrun, so that ``cuda:LOCAL_RANK`` is its own."""
    started_in = Path(settings["from"])
    # Relative paths in the configuration are relative to where the user started the run. A node may lack that folder:
    # absolute paths work there all the same, and a relative one is then reported as missing by its reader.
    if started_in.is_dir():
        os.chdir(started_in)
    folder = Path(settings["folder"])
    if "config" in settings:
        pretrain(from_json(PretrainConfig, settings["config"]), folder)
    else:
        resume(folder)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connects to the cluster until the context ends, and yields ``ray.train``; an existing connection is used and
    stays. RayError without Ray Train or a cluster."""
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
        RayError: the cluster has not enough, busy ones included: those become free, and Ray waits for them, as it
            would for nodes that may never come.
    """
    import ray

    existing = ray.cluster_resources()
    gpus = 0 if device == "cpu" or (device == "auto" and not existing.get("GPU")) else job.workers
    for name, needed in (("CPU", job.workers * job.cpus), ("GPU", gpus)):
        if existing.get(name, 0) < needed:
            raise RayError(
                f"{job.workers} processes need {needed} {name}s and the cluster has {existing.get(name, 0):.0f}; ask "
                f"for fewer{', add nodes, or set loop.device=cpu' if name == 'GPU' else ' or add nodes'}"
            )
    return gpus


def _reason(error: Exception) -> str:
    """The rank of a process that failed, and its error.

    One failure makes the other processes fail, too, with errors that only say that the connection was lost. So errors
    of tmor_train and posecap are preferred, and of several the lowest rank. Theirs are shown without their class, as on
    the command line."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return str(error)
    own = {r for r, failure in failures.items() if type(failure).__module__.startswith(("tmor_train.", "posecap."))}
    rank = min(own or failures)
    failure = failures[rank]
    return f"process {rank}: {failure if rank in own else f'{type(failure).__name__}: {failure}'}"
