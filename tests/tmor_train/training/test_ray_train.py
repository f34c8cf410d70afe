"""Two processes that a local Ray starts end with the weights of two that were started as torchrun starts them."""

import argparse
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from posecap.types import PartName
from tests import built
from tmor_train.commands.run import _add_ray, _ray_processes
from tmor_train.configuration import changed
from tmor_train.recipes import recipe
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.config import PretrainConfig
from tmor_train.training.pretrain import pretrain
from tmor_train.training.ray_train import RayError, RayJob, _process, _reason, pretrain_on_ray
from tmor_train.training.runs import RunError

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TWO = RayJob(address="local", workers=2)


def test_a_team_of_nobody_is_refused() -> None:
    with pytest.raises(RayError, match="at least 1"):
        RayJob(workers=0)


def test_only_pre_training_runs_on_ray(tmp_path: Path) -> None:
    with pytest.raises(RayError, match="only pre-training runs on Ray, not ProbeConfig"):
        pretrain_on_ray(recipe("probe"), tmp_path / "run", TWO)  # type: ignore[arg-type]


def test_flags_make_a_team() -> None:
    parser = argparse.ArgumentParser()
    _add_ray(parser)
    assert _ray_processes(parser.parse_args([])) is None
    words = ["--ray", "auto", "--workers", "16", "--cpus", "8"]
    assert _ray_processes(parser.parse_args(words)) == RayJob(address="auto", workers=16, cpus=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two CPUs of this machine as a cluster, for all tests of this file."""
    pytest.importorskip("ray.train", reason="Ray Train is not installed", exc_type=ImportError)
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    shards = tmp_path_factory.mktemp("ray") / "shards"
    built.build(shards, {PartName("train", 0): built.samples(8, people=1, frames=6)})
    changes = [f"data.shards={shards}", "batching.last=drop", "batching.size=2", "clusters.first=1"]
    changes += ["sampling.frames=6", "loop.epochs=2", "loop.workers=0", "loop.device=cpu"]
    return changed(recipe("pretrain_demo"), changes)


def as_torchrun(rank: int, port: int, config: PretrainConfig, folder: Path) -> None:
    """What each of two processes does."""
    environment = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in environment.items()}
    torch.set_num_threads(1)
    pretrain(config, folder)
    torch.distributed.destroy_process_group()


def encoder(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint.load_latest(path)[1]["learner"]["encoder"]
    return found


@pytest.fixture(scope="module")
def whole(config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that were started as torchrun starts them."""
    folder = tmp_path_factory.mktemp("torchrun") / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(as_torchrun, (port, config, folder), nprocs=2)
    return folder


def same(one: Path, other: Path) -> bool:
    """Whether both runs ended with the same weights, to the bit."""
    ours, theirs = encoder(one), encoder(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_are_those_of_torchrun(cluster: None, config: PretrainConfig, whole: Path, tmp_path: Path) -> None:
    path = pretrain_on_ray(config, tmp_path / "run", TWO)
    assert path == Checkpoints(tmp_path / "run" / "checkpoints").latest()[0]
    assert same(path, whole)
    with pytest.raises(RunError, match="holds a run"):
        pretrain_on_ray(config, tmp_path / "run", TWO)


def test_a_process_goes_on_with_a_run_that_others_began(whole: Path, tmp_path: Path) -> None:
    """What Ray has each process do, done by one: after an epoch of two processes (2 steps) an epoch alone (4)."""
    begun = tmp_path / "run"
    shutil.copytree(whole, begun)
    last, content = Checkpoints(begun / "checkpoints").latest()
    assert content["learner"]["step"] == 4
    last.unlink()
    _process({"folder": str(begun), "from": str(Path.cwd())})
    assert Checkpoints(begun / "checkpoints").latest()[1]["learner"]["step"] == 6


def test_an_error_comes_back_in_the_words_of_the_process_that_found_it() -> None:
    train = pytest.importorskip("ray.train", reason="Ray Train is not installed", exc_type=ImportError)
    lost, found = RuntimeError("gloo: connection closed by peer"), RunError("step 3 of epoch 1 was not taken")
    assert _reason(train.WorkerGroupError("failed", {0: lost, 1: found})) == f"process 1: {found}"
    assert _reason(train.WorkerGroupError("failed", {0: lost})) == f"process 0: RuntimeError: {lost}"


def test_more_than_the_cluster_has_is_refused_at_once(cluster: None, config: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(RayError, match=r"3 processes need 3 CPUs and the cluster has 2"):
        pretrain_on_ray(config, tmp_path / "run", RayJob(workers=3))
