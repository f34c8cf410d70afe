"""A run from beginning to end, in the middle of which it is stopped in every way that comes to mind."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from posecap.files import file_sha256
from posecap.types import PartName
from tests import ROOT, built
from tmor_train.cli import main
from tmor_train.configuration import changed
from tmor_train.data import LoaderState
from tmor_train.data.provenance import SeenClips
from tmor_train.data_sources import motions_of
from tmor_train.recipes import recipe
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError, Checkpoints, CheckpointWriteError
from tmor_train.training.config import PretrainConfig
from tmor_train.training.distributed import DistributedContext
from tmor_train.training.metric_logger import read_events
from tmor_train.training.optimizer import NonFiniteError
from tmor_train.training.pretrain import Pretraining, fitted, pretrain, resume
from tmor_train.training.runs import RunError, Stopped, run_lock
from tmor_train.training.train_state import TrainState

torch.set_num_threads(1)

pytestmark = pytest.mark.usefixtures("narrow_encoders")

CLIPS, STEPS = 13, 12
# Three batches of four clips an epoch, four epochs; clusters after the first; a checkpoint in the middle of each epoch.
SMALL = (
    "sampling.frames=8",
    "batching.size=4",
    "batching.last=drop",
    "clusters.first=1",
    "objective.momentum=0.9",
    "loop.epochs=4",
    "loop.checkpoint_steps=2",
    "loop.workers=0",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    samples = built.samples(CLIPS, people=1, frames=10)
    built.build(root, {PartName("train", 0): samples[:6], PartName("train", 1): samples[6:]})
    return root


@pytest.fixture(scope="module")
def config(shards: Path) -> PretrainConfig:
    return changed(recipe("pretrain_demo"), [f"data.shards={shards}", *SMALL])


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as training here; only the straight run, made before this, draws."""
    request.getfixturevalue("straight")
    monkeypatch.setattr("tmor_train.training.pretrain.plot", lambda folder: "no plots")


@pytest.fixture(scope="module")
def straight(
    narrow_encoders: tuple[int, ...], config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    pretrain(config, folder)
    return folder


def flat(content: Any, at: str = "") -> dict[str, Any]:
    """All values of nested dicts and lists by path."""
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {name: value for key, item in items for name, value in flat(item, f"{at}/{key}").items()}
    return {at: content}


def assert_same(one: Path, other: Path) -> None:
    """Two checkpoints hold the same bytes in every tensor, and the same values elsewhere."""
    left, right = flat(checkpoint.load(one)), flat(checkpoint.load(other))
    assert left.keys() == right.keys()
    tensors = 0
    for name, value in left.items():
        if isinstance(value, torch.Tensor):
            tensors += 1
            assert value.numpy().tobytes() == right[name].numpy().tobytes(), name
        else:
            assert value == right[name], name
    assert tensors > 500  # two encoders, heads, queue and the optimiser's moments


def last(folder: Path) -> Path:
    return Checkpoints(folder / "checkpoints").all()[-1]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The next runs die in step number ``steps``, as by a power cut."""
    train = TrainState.train_step

    def dying(self: TrainState, batches: Sequence[Any], **settings: Any) -> Any:
        if self.step == steps:
            raise KeyboardInterrupt
        return train(self, batches, **settings)

    monkeypatch.setattr(TrainState, "train_step", dying)


def test_a_run_leaves_everything_behind(straight: Path, config: PretrainConfig) -> None:
    assert last(straight).name == f"step-{STEPS:09}.pt"
    saved = json.loads((straight / "config.json").read_text())
    assert saved["sampling"]["frames"] == 8
    assert saved["objective"]["queue_size"] == CLIPS // 2  # not the recipe's
    (start,) = read_events(straight, "start")
    assert (start["recipe"], start["clips"], start["processes"]) == ("pretrain_demo", CLIPS, 1)
    (before,) = read_events(straight, "before")
    assert before["rank"] > 1
    steps = list(read_events(straight, "step"))
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert {"loss", "mm/loss", "mv/loss", "mt/loss", "rank", "alignment", "uniformity", "rate"} <= steps[0].keys()
    epochs = list(read_events(straight, "epoch"))
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4]
    assert all(
        {"clusters", "noise_share", "eps", "rank", "samples_per_second", "data_wait"} <= e.keys() for e in epochs
    )
    assert epochs[0]["loss"] == pytest.approx(sum(line["loss"] for line in steps[:3]) / 3)
    assert (straight / "checkpoints" / "best.pt").exists()
    assert (straight / "plots").exists() or not find_spec("matplotlib")


def test_the_best_checkpoint_is_the_best_since_the_first_clustering(config: PretrainConfig, tmp_path: Path) -> None:
    motions = motions_of(config.data)
    fit, _ = fitted(config, motions)
    training = Pretraining(fit, tmp_path, motions, DistributedContext())
    # The loss of the first epoch, after which clips are clustered for the first time, was computed without clusters.
    for epoch, loss in ((1, 0.5), (2, 0.9), (3, 1.2)):
        training.train_state.step, training.loader.state = 3 * epoch, LoaderState(epoch, 0)
        training.losses = [loss]
        training._after_epoch()
    assert training.best == 0.9
    assert checkpoint.load(tmp_path / "checkpoints" / "best.pt")["learner"]["step"] == 6


def test_it_learns(straight: Path) -> None:
    losses = [line["mv/loss"] + line["mt/loss"] for line in read_events(straight, "step")]
    # The first step's loss is lower than those after it whatever is learned: nothing is in the queue yet.
    assert sum(losses[-3:]) < sum(losses[1:4])


def test_the_same_run_again_is_the_same_whatever_gathers_its_batches(
    straight: Path, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        pretrain(changed(config, ["loop.workers=2"]), tmp_path / "again")
    again = [line["loss"] for line in read_events(tmp_path / "again", "step")]
    assert again == [line["loss"] for line in read_events(straight, "step")][:5]


@pytest.mark.slow
def test_stopped_in_an_epoch_and_resumed_is_bit_for_bit_the_straight_run(
    straight: Path, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, folder)
    content = checkpoint.load(last(folder))
    # Two of the third epoch's three batches were taken; clusters, queue and the loader's place are as they were.
    assert content["learner"]["step"] == 8
    assert content["loader"] == {"epoch": 2, "position": 8}
    resume(folder)
    assert_same(last(folder), last(straight))
    assert [line["event"] for line in read_events(folder, "start", "resume", "done")] == ["start", "resume", "done"]


SLOWLY = """\
import time

from tmor_train.backbones import layers
from tmor_train.cli import main
from tmor_train.training.train_state import TrainState

layers.WIDTHS = NARROW
step = TrainState.train_step


def slow_step(self, *batches, **settings):
    time.sleep(0.2)
    return step(self, *batches, **settings)


TrainState.train_step = slow_step
main()
"""
"""The program in a process of its own, with the encoders of this file, and slow enough to be killed before its end."""


@pytest.mark.slow
def test_killed_loses_only_the_steps_since_the_last_checkpoint(
    straight: Path, narrow_encoders: tuple[int, ...], config: PretrainConfig, shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    program = SLOWLY.replace("NARROW", repr(narrow_encoders))
    command = [sys.executable, "-c", program, "run", "pretrain_demo", "--data", str(shards), "--output", str(folder)]
    changes = [*SMALL, "loop.log_steps=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--set", *changes], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = folder / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and any(line["step"] >= 5 for line in read_events(folder, "step")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    taken = max(line["step"] for line in read_events(folder, "step"))
    assert taken < STEPS
    saved = Checkpoints(folder / "checkpoints").latest()[1]["learner"]["step"]
    assert taken - saved <= config.loop.checkpoint_steps
    resume(folder)
    assert_same(last(folder), last(straight))


def test_killed_in_its_first_step_a_run_is_resumed(
    straight: Path, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "run")
    assert last(tmp_path / "run").name == "step-000000000.pt"
    monkeypatch.undo()
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "run")
    losses = [line["loss"] for line in read_events(tmp_path / "run", "step")]
    assert losses == [line["loss"] for line in read_events(straight, "step")][:2]


def test_a_run_of_a_former_version_that_has_no_checkpoint_begins_anew(
    straight: Path, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(straight / "config.json", folder)
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        resume(folder)
    (step,) = read_events(folder, "step")
    assert step["loss"] == next(read_events(straight, "step"))["loss"]
    # One whose journal tells of checkpoints has lost them, and begins nothing.
    shutil.rmtree(folder / "checkpoints")
    shutil.copy(straight / "journal.jsonl", folder)
    with pytest.raises(CheckpointError, match="holds no checkpoint any more"):
        resume(folder)


def test_of_two_processes_on_a_run_the_second_is_refused(straight: Path, config: PretrainConfig) -> None:
    with run_lock(straight):
        with pytest.raises(RunError, match=f"is being worked on by process {os.getpid()} on"):
            resume(straight)
        with pytest.raises(RunError, match="is being worked on by"):
            pretrain(config, straight)


def test_a_disk_that_is_full_at_the_first_checkpoint_leaves_no_run(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        with pytest.raises(CheckpointWriteError, match=r"File too large; .* make room, then start the run again"):
            pretrain(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(KeyboardInterrupt):  # in its first step
        pretrain(config, tmp_path / "run")


def test_a_disk_that_is_full_later_leaves_the_checkpoint_before(
    config: PretrainConfig,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    train = TrainState.train_step

    def filling(self: TrainState, batches: Sequence[Any], **settings: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        return train(self, batches, **settings)

    monkeypatch.setattr(TrainState, "train_step", filling)
    try:
        assert main(["run", "pretrain_demo", "--data", str(shards), "--output", str(folder), "--set", *SMALL]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err.splitlines()[-1]
    assert "step-000000002.pt, about " in said
    assert said.endswith(f"step-000000000.pt before it is as it was; make room, then `tmor_train resume {folder}`")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000000.pt"]
    assert checkpoint.load(last(folder))["learner"]["step"] == 0


@pytest.mark.slow
def test_asked_to_stop_it_saves_the_step_it_is_in(
    straight: Path, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    train = TrainState.train_step

    def asked(self: TrainState, batches: Sequence[Any], **settings: Any) -> Any:
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, batches, **settings)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "train_step", asked)
        with pytest.raises(Stopped):
            pretrain(config, folder)
    assert last(folder).name == "step-000000005.pt"
    assert signal.getsignal(signal.SIGTERM) is before
    resume(folder)
    assert_same(last(folder), last(straight))


def test_a_collapse_is_told(config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainState, "embeddings", lambda self: torch.ones(CLIPS, 256))
    pretrain(changed(config, ["loop.epochs=1"]), tmp_path / "run")
    (warning,) = read_events(tmp_path / "run", "warning")
    assert (warning["what"], warning["rank"]) == ("collapse", 0.0)
    (epoch,) = read_events(tmp_path / "run", "epoch")
    assert epoch["fell_back"] == 1


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_its_batch(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = TrainState.view

    def poisoned(self: TrainState, batch: Any, steps: Any) -> Any:
        seen = view(self, batch, steps)
        if self.step == 4:
            seen.motion_NCTVM[1, 0, 0, 0, 0] = torch.nan
        return seen

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "view", poisoned)
        with pytest.raises(RunError, match="step 4 of epoch 2 was not taken: the loss is nan") as caught:
            pretrain(config, folder)
    (path,) = folder.glob("not-finite-*.pt")
    kept = checkpoint.load(path)
    assert (kept["step"], kept["epoch"], len(kept["keys"]), kept["motion"].shape[0]) == (4, 1, 4, 4)
    assert kept["keys"][0] in str(caught.value)
    (stopped,) = read_events(folder, "stopped")
    assert stopped["batch"] == path.name
    weights = Checkpoints(folder / "checkpoints").latest()[1]["learner"]["encoder"].values()
    assert all(torch.isfinite(value).all() for value in weights)
    resume(folder)  # without the poison
    assert last(folder).name == f"step-{STEPS:09}.pt"


def test_nothing_is_stepped_when_the_gradient_is_not_finite(config: PretrainConfig) -> None:
    motions = motions_of(config.data)
    fit, _ = fitted(config, motions)
    training = Pretraining(fit, Path("unused"), motions, DistributedContext())
    train_state = training.train_state
    batch = training.loader.gather(torch.arange(4).numpy())
    batch.motion_NCTVM[0] = torch.inf
    before = {name: value.clone() for name, value in train_state.encoder.named_parameters()}
    with pytest.raises(NonFiniteError):
        train_state.train_step([batch], lr_ratio=1.0, watch=False)
    assert all(torch.equal(value, before[name]) for name, value in train_state.encoder.named_parameters())
    assert train_state.step == 0
    assert int(train_state.objective.step) == 0


def test_accumulated_batches_make_one_step(config: PretrainConfig, tmp_path: Path) -> None:
    path = pretrain(changed(config, ["loop.accumulate=2", "loop.epochs=1"]), tmp_path / "run")
    # Three batches: two in the first step, the one that is left in the second.
    content = checkpoint.load(path)
    assert content["learner"]["step"] == 2
    assert int(content["learner"]["objective"]["step"]) == 2
    # Of the first eight keys the queue of six took the last six, and then four.
    assert int(content["learner"]["objective"]["memory.cursor"]) == 4


@pytest.mark.slow
def test_a_run_that_stops_after_the_last_accumulated_step_of_an_epoch_is_resumed_in_that_epoch(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(config, ["loop.accumulate=2", "loop.epochs=2", "loop.log_steps=1"])
    straight, folder = tmp_path / "straight", tmp_path / "stopped"
    pretrain(config, straight)
    assert [event["epoch"] for event in read_events(straight, "step")] == [0, 0, 1, 1]
    train = TrainState.train_step

    def asked(self: TrainState, batches: Sequence[Any], **settings: Any) -> Any:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, batches, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "train_step", asked)
        with pytest.raises(Stopped):
            pretrain(config, folder)
    assert last(folder).name == "step-000000002.pt"
    resume(folder)
    assert_same(last(folder), last(straight))
    assert [event["epoch"] for event in read_events(folder, "epoch")] == [1, 2]


def test_stage_two_begins_with_stage_ones_weights(straight: Path, config: PretrainConfig) -> None:
    motions = motions_of(config.data)
    fit, _ = fitted(config, motions)
    train_state = TrainState(fit, motions, DistributedContext())
    state = checkpoint.load(last(straight))["learner"]
    heads = train_state.load_pretrained(state)
    assert {"motion_head.layers.0.weight", "text_head.layers.0.weight"} <= set(heads)
    assert all(torch.equal(value, train_state.encoder.state_dict()[name]) for name, value in state["encoder"].items())
    averaged = train_state.ema.module.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in state["ema"].items())
    assert train_state.step == 0
    assert not train_state.optimizer.state_dicts()[0]["state"]


def test_a_second_stage_runs_on_a_first(straight: Path, config: PretrainConfig, tmp_path: Path) -> None:
    start = [f"loop.start_from={straight}", "loop.start=checkpoint", "loop.epochs=1"]
    assert pretrain(changed(config, start), tmp_path / "second").exists()
    with pytest.raises(ValueError, match="does not fit that of the recipe"):
        pretrain(changed(config, [*start, "encoder.heads=4"]), tmp_path / "third")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["loop.start=checkpoint"], "give --from CHECKPOINT"),
        (["batching.size=64"], "the set has 13 clips, fewer than a batch of 64"),
        (["encoder.channels=3"], "has 2 coordinates in 1 streams, and encoder.channels is 3; set encoder.channels=2"),
        (["views.streams=joint,bone"], "2 coordinates in 2 streams, .* set encoder.channels=4"),
    ],
)
def test_runs_that_cannot_begin_say_why_and_leave_no_folder(
    changes: list[str], words: str, config: PretrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=words):
        pretrain(changed(config, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("last_batch", ["drop", "fill", "keep"])
def test_one_clip_is_too_few(
    last_batch: str, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = motions_of(config.data).select([0])
    monkeypatch.setattr("tmor_train.training.pretrain.motions_of", lambda data: one)
    with pytest.raises(RunError, match=r"the data holds one clip.* name more data, by --data or --sets"):
        pretrain(changed(config, [f"batching.last={last_batch}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_written_over(straight: Path, config: PretrainConfig) -> None:
    with pytest.raises(RunError, match="already holds a run; resume it with `tmor_train resume"):
        pretrain(config, straight)


def test_resuming_with_other_clips_is_refused(
    config: PretrainConfig, straight: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motions = motions_of(config.data)
    monkeypatch.setattr("tmor_train.training.pretrain.motions_of", lambda data: motions.select(range(CLIPS - 1)))
    with pytest.raises(RunError, match="other clips"):
        resume(straight)


def test_resuming_with_another_pose_model_under_the_same_keys_is_refused(
    straight: Path, config: PretrainConfig, shards: Path, tmp_path: Path
) -> None:
    other = tmp_path / "run"
    (other / "checkpoints").mkdir(parents=True)
    shutil.copy(straight / "config.json", other)
    content = checkpoint.load(last(straight))
    recorded = json.loads(content["inputs"])
    assert len(recorded["files"]) == 4  # columns and index of two parts
    columns = next(name for name in recorded["files"] if name.endswith("pose-00001.columns"))
    was = recorded["files"][columns]
    recorded["files"][columns] = "0" * 64
    recorded["about"] = {f"{shards}: model of-yesterday": "ef" * 32}
    checkpoint.save(other / "checkpoints" / last(straight).name, {**content, "inputs": json.dumps(recorded)})
    with pytest.raises(RunError) as caught:
        resume(other)
    said = str(caught.value)
    assert f"{shards}: model of-yesterday (efefefefefef) is not there now" in said
    assert f"{columns} was 000000000000 and is {was[:12]}" in said
    assert said.endswith(f"restore the data, or begin a new run with the weights of this one: --from {other}")


def test_a_checkpoint_without_hashes_of_its_data_is_resumed_with_a_notice(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "run"
    (old / "checkpoints").mkdir(parents=True)
    shutil.copy(straight / "config.json", old)
    content = {name: value for name, value in checkpoint.load(last(straight)).items() if name not in ("inputs", "seen")}
    checkpoint.save(old / "checkpoints" / last(straight).name, content)
    resume(old)
    assert "recorded no hashes of its data; only keys were compared" in capsys.readouterr().err


def test_a_second_stage_remembers_the_first_ones_clips_and_weights(
    straight: Path, config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = tmp_path / "second", motions_of(config.data)
    some = first.select(range(5))  # a batch and so a checkpoint an epoch
    begun = changed(config, [f"loop.start_from={straight}", "loop.start=checkpoint"])
    for steps, go in ((0, lambda: pretrain(begun, folder)), (1, lambda: resume(folder))):
        with monkeypatch.context() as patch:
            patch.setattr("tmor_train.training.pretrain.motions_of", lambda data: some)
            stop_after(patch, steps)
            with pytest.raises(KeyboardInterrupt):
                go()
        assert last(folder).name == f"step-{steps:09}.pt"
        content = checkpoint.load(last(folder))
        assert content["origin"] == {"name": last(straight).name, "sha256": file_sha256(last(straight))}
        assert SeenClips.from_state(content["seen"]).count(first)[0] == CLIPS


def test_resuming_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        resume(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        ["objective.keys=same"],
        ["objective.negatives=memory_bank"],
        ["objective.negatives=batch", "objective.temperature=learned"],
        ["objective.symmetric=on", "objective.noise=drop"],
        ["encoder.backbone=agcn", "sampling.people=2"],
        ["encoder.backbone=stgcn", "sampling.layout=coco17"],
        ["views.streams=joint,bone", "encoder.channels=4", "encoder.tau=3", "encoder.heads=2"],
        ["views.positive=CropResize,Rotate,Flip,Noise,Blur", "views.anchor=ShiftCrop", "encoder.people=masked_mean"],
        ["optimizer.method=sgd", "optimizer.clip=none"],
    ],
    ids=lambda changes: changes[0],
)
def test_every_part_can_be_another(changes: list[str], config: PretrainConfig) -> None:
    motions = motions_of(config.data)
    fit, _ = fitted(changed(config, changes), motions)
    training = Pretraining(fit, Path("unused"), motions, DistributedContext())
    batch = training.loader.gather(torch.arange(4).numpy())
    losses = [training.train_state.train_step([batch], lr_ratio=1.0, watch=True).loss for _ in range(2)]
    assert all(0 < loss < 50 for loss in losses)
    moved = [p for p in training.train_state.encoder.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(moved) > 50
    assert training.train_state.embeddings().shape == (CLIPS, 256)


def test_clusters_reach_the_objective(config: PretrainConfig) -> None:
    motions = motions_of(config.data)
    fit, _ = fitted(config, motions)
    train_state = TrainState(fit, motions, DistributedContext())
    assert train_state.cluster_of is None
    embeddings = torch.eye(256)[torch.arange(CLIPS) % 3] + 0.01 * torch.eye(256)[10 : 10 + CLIPS]
    figures = train_state.recluster(embeddings)
    assert figures["clusters"] == 3
    assert train_state.cluster_of is not None
    assert torch.equal(train_state.cluster_of, torch.arange(CLIPS) % 3)
    figures = train_state.recluster(torch.ones(CLIPS, 256))  # one cluster: this epoch goes on without
    assert figures["fell_back"]
    assert train_state.cluster_of is None


def test_embeddings_do_not_depend_on_batches_and_leave_training_alone(config: PretrainConfig) -> None:
    motions = motions_of(config.data)
    fit, _ = fitted(config, motions)
    train_state = TrainState(fit, motions, DistributedContext())
    once = train_state.embeddings(size=CLIPS)
    torch.testing.assert_close(train_state.embeddings(size=5), once, rtol=1e-4, atol=1e-6)
    assert torch.equal(train_state.embeddings(size=CLIPS), once)
