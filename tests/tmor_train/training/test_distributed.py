"""Two processes on half a batch each do what one does on the whole; halves only where a processor computes in them."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from posecap.types import PartName
from tests import built
from tmor_train.configuration import changed
from tmor_train.methods.tmor import Anchors, Objective
from tmor_train.objective_config import ObjectiveConfig
from tmor_train.recipes import recipe
from tmor_train.training import checkpoint
from tmor_train.training.distributed import DistributedContext, autocast_of, distributed_context
from tmor_train.training.metric_logger import read_events
from tmor_train.training.pretrain import pretrain

torch.set_num_threads(1)

CLIPS, WIDTH = 8, 6


def step(team: DistributedContext, keys: str) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Loss, gradients and queue after a step; each of the team has its share of the same eight clips."""
    torch.manual_seed(0)
    encoder = nn.Linear(WIDTH, WIDTH)
    config = ObjectiveConfig(queue_size=16, width=4, keys=keys, num_negatives=5)  # type: ignore[arg-type]
    objective = Objective(config, features=WIDTH, video=3, text=5, gather=team.gather)
    share = CLIPS // team.world
    own = slice(team.rank * share, (team.rank + 1) * share)
    clips, views, video, text = (torch.randn(CLIPS, wide)[own] for wide in (WIDTH, WIDTH, 3, 5))
    index, cluster_of = torch.arange(CLIPS)[own], torch.arange(CLIPS) % 3
    parameters = [*encoder.parameters(), *objective.parameters()]
    for _ in range(2):  # the second time with a queue
        for parameter in parameters:
            parameter.grad = None
        with torch.set_grad_enabled(keys == "same"):
            keys_ND = encoder(views)
        anchors = Anchors(
            features_ND=encoder(clips),
            keys_ND=keys_ND,
            index_N=index,
            video_NDv=video,
            text_NDt=text,
            text_id_N=index,
        )
        losses = objective(anchors, cluster_of)
        losses.total.backward()
        team.average_gradients(parameters)
        objective.after_step(losses.fresh)
    total = team.sum(losses.total.detach().clone()) / team.world
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return total, gradients, objective.memory.get_buffer("motion_KD")


def environment(rank: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def in_two(rank: int, port: int, out: Path, changes: list[str]) -> None:
    """What each of the two processes does."""
    os.environ |= environment(rank, port)
    torch.set_num_threads(1)
    team = distributed_context("cpu")
    found = {keys: step(team, keys) for keys in ("ema", "same")}
    statistics = nn.BatchNorm1d(1)
    statistics.running_mean.fill_(rank)  # type: ignore[union-attr]
    team.average_statistics(statistics)
    run = pretrain(changed(recipe("pretrain_demo"), changes), out / "run")
    encoder = checkpoint.load(run)["learner"]["encoder"] if team.is_main else {}
    torch.save({"steps": found, "mean": statistics.running_mean, "encoder": encoder}, out / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()
    # Once, of many runs, C++ threads that were still there ended such a process with SIGABRT ("terminate called without
    # an active exception"). All that is compared is written by now, so nothing is left to be taken down.
    os._exit(0)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two gloo processes found, and where their run is."""
    out = tmp_path_factory.mktemp("two")
    built.build(out / "shards", {PartName("train", 0): built.samples(8, people=1, frames=6)})
    changes = [f"data.shards={out / 'shards'}", "batching.last=drop", "batching.size=2", "clusters.first=1"]
    changes += ["sampling.frames=6", "loop.epochs=2", "loop.workers=0", "loop.device=cpu"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(in_two, (port, out, changes), nprocs=2)
    return out / "run", [torch.load(out / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["ema", "same"])
def test_loss_gradient_and_queue_are_those_of_one_process(keys: str, two: tuple[Path, list[dict[str, Any]]]) -> None:
    loss, gradients, queue = step(DistributedContext(), keys)
    for found in two[1]:
        torch.testing.assert_close(found["steps"][keys][0], loss)
        torch.testing.assert_close(found["steps"][keys][1], gradients)
        torch.testing.assert_close(found["steps"][keys][2], queue)


@pytest.mark.slow
def test_running_statistics_are_averaged(two: tuple[Path, list[dict[str, Any]]]) -> None:
    assert [found["mean"].item() for found in two[1]] == [0.5, 0.5]


@pytest.mark.slow
def test_a_whole_run_in_two_processes(two: tuple[Path, list[dict[str, Any]]]) -> None:
    run, found = two
    assert [line["processes"] for line in read_events(run, "start")] == [2]  # only one of them writes
    assert [line["step"] for line in read_events(run, "epoch")] == [2, 4]
    assert all(torch.isfinite(value).all() for value in found[0]["encoder"].values())


def test_alone_nothing_is_exchanged() -> None:
    team = distributed_context("cpu")
    assert (team.rank, team.world, team.is_main) == (0, 1, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set loop\.device=cpu"):
        distributed_context("cuda")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(1, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"process 1 .* has no GPU of its own: torch finds 1; .*--nproc-per-node"):
        distributed_context("auto")


CPU = torch.device("cpu")


def dtype_inside(precision: str) -> torch.dtype:
    with autocast_of(precision, CPU):  # type: ignore[arg-type]
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_a_cpu_computes_in_float32_unless_asked() -> None:
    assert dtype_inside("auto") == dtype_inside("float32") == torch.float32


def test_a_cpu_without_bfloat16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match=r"set precision \(in pre-training loop.precision\) to float32"):
        autocast_of("bfloat16", CPU)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert dtype_inside("bfloat16") == torch.bfloat16
