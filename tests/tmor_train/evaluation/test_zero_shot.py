"""Zero-shot scores against plain loops, what is said beside them, and how it says no."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tmor_train
from posecap.types import PartName
from tests import building, built
from tmor_train.configuration import ConfigError, as_json, changed
from tmor_train.data_sources import MissingTextError
from tmor_train.encoder import UnusableEncoderError
from tmor_train.evaluation.config import TTAConfig, ZeroShotConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError, leakage_notes, local_features_of
from tmor_train.evaluation.zero_shot import (
    Sides,
    combined,
    frozen,
    unit,
    video_head_of,
    zero_shot,
)
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.prompts import all_prompts, prompts
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores, results_under
from tmor_train.tasks import resume
from tmor_train.training import checkpoint
from tmor_train.training.runs import RunError

torch.set_num_threads(1)
CLASSES = ("sit_down", "walking")
DESCRIBED_CLASSES = ("sitting down", "walking")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of two classes with video vectors of six numbers and captions of four."""
    root = tmp_path_factory.mktemp("zero") / "shards"
    parts = {}
    for number, split in enumerate(("train", "test")):
        kept = []
        for at, label in enumerate(CLASSES):
            row = building.row(row_id=f"{split}-{label}", split=split, label=label)
            kept += built.samples(2 + at, first=10 * number + 5 * at, row=row, people=1, frames=10)
        parts[PartName(split, number)] = kept
    built.build(root, parts)
    return root


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of four numbers for all prompts, as wide as those the run was trained with."""
    path = tmp_path_factory.mktemp("zero") / "prompts.parquet"
    sentences = all_prompts(["sit down", "walking"])
    vectors = np.random.default_rng(5).normal(size=(len(sentences), 4)).astype(np.float32)
    pq.write_table(pa.table({"sentence": sentences, "vector": list(vectors)}), path)
    return path


@pytest.fixture(scope="module")
def encoder(demo_run: Path) -> Pretrained:
    return tmor_train.load(demo_run)


def config(demo_run: Path, shards: Path, texts: Path, *changes: str) -> ZeroShotConfig:
    known = ["task.benchmark=shards", f"task.folder={shards}", f"start.weights={demo_run}", f"texts={texts}"]
    made: ZeroShotConfig = changed(
        recipe("zero_shot"), [*known, "device=cpu", "workers=0", "task.leaks=note", *changes]
    )
    return made


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in other))
    return sum(x * y for x, y in zip(one, other, strict=True)) / lengths


def through(layers: Any, vector: np.ndarray) -> list[float]:
    """A head before its vectors are brought to length 1: Linear, ReLU, Linear, number by number."""
    first, _, last = layers
    hidden = [max(0.0, float(b + w @ vector)) for w, b in zip(first.weight.numpy(), first.bias.numpy(), strict=True)]
    return [float(b + w @ np.array(hidden)) for w, b in zip(last.weight.numpy(), last.bias.numpy(), strict=True)]


def drawn(width: int = 4) -> Sides:
    draw = np.random.default_rng(3)
    return Sides(
        motion_ND=draw.normal(size=(3, 256)).astype(np.float32),
        video_NDv=draw.normal(size=(3, 6)).astype(np.float32),
        texts_KPDt=draw.normal(size=(2, 5, width)).astype(np.float32),
    )


@pytest.mark.parametrize("how", ["normalised_mean", "raw_mean", "score_mean"])
def test_motion_and_video_are_averaged_as_the_word_says(encoder: Pretrained, how: Any) -> None:
    head, sides = video_head_of(encoder), drawn()
    assert head is not None
    assert encoder.heads is not None
    assert encoder.heads.text is not None
    found = combined(encoder, head, sides, how)
    for n in range(3):
        motion = through(encoder.heads.motion.layers, sides.motion_ND[n])
        video = through(head.layers, sides.video_NDv[n])
        for k in range(2):
            wordings = []
            for p in range(5):
                text = through(encoder.heads.text.layers, sides.texts_KPDt[k, p])
                if how == "score_mean":
                    wordings.append((cosine(motion, text) + cosine(video, text)) / 2)
                    continue
                one, two = (1.0, 1.0) if how == "raw_mean" else (math.hypot(*motion), math.hypot(*video))
                both = [(x / one + y / two) / 2 for x, y in zip(motion, video, strict=True)]
                wordings.append(cosine(both, text))
            assert found[n, k] == pytest.approx(sum(wordings) / 5, abs=2e-5)


def test_frozen_cosines_are_averaged_with_motions(encoder: Pretrained) -> None:
    sides = drawn()
    with pytest.raises(UnusableEncoderError, match="video vectors have 6 numbers and text vectors 4"):
        combined(encoder, None, sides, "frozen_mean")
    video_NDv = sides.video_NDv[:, :4]
    same = replace(sides, video_NDv=video_NDv)
    plain = [
        [sum(cosine(v.tolist(), t.tolist()) for t in wordings) / 5 for wordings in same.texts_KPDt] for v in video_NDv
    ]
    np.testing.assert_allclose(frozen(same), plain, atol=1e-6)
    motion = encoder.text_cosines(same.motion_ND, same.texts_KPDt)
    np.testing.assert_allclose(combined(encoder, None, same, "frozen_mean"), (motion + np.array(plain)) / 2, atol=1e-6)


def test_the_video_head_is_that_of_the_checkpoint(encoder: Pretrained) -> None:
    head = video_head_of(encoder)
    assert head is not None
    known = checkpoint.load(encoder.path)["learner"]["objective"]["video_head.layers.0.weight"]
    assert torch.equal(head.layers[0].weight, known)
    assert video_head_of(replace(encoder, config=None)) is None
    without = dict(encoder.config or {})
    without["objective"] = {**without["objective"], "w_mv": 0.0}
    assert video_head_of(replace(encoder, config=without)) is None
    with pytest.raises(UnusableEncoderError, match="without video"):
        combined(encoder, None, drawn(), "normalised_mean")


def test_unit_leaves_zeros_alone() -> None:
    np.testing.assert_allclose(unit([[3, 4], [0, 0]]), [[0.6, 0.8], [0, 0]])


def test_each_set_of_prompts_is_a_result_with_and_without_video(
    demo_run: Path, shards: Path, texts: Path, tmp_path: Path
) -> None:
    zero_shot(config(demo_run, shards, texts), tmp_path / "run")
    found = {result.mode: (place, result) for place, result in results_under(tmp_path / "run")}
    names = ("plain", "person", "templates")
    assert set(found) == {f"zero_shot_{name}{way}" for name in names for way in ("", "_visual_normalised_mean")}
    place, result = found["zero_shot_templates"]
    assert place == tmp_path / "run/templates/motion"
    assert result.classes == CLASSES
    assert result.counts == {"train": 0, "test": 5}
    assert result.notes[0].startswith("footage of 5 measured clips, or of their source videos, stands in the train")
    # Made-up clips of equal numbers are of equal files, here and in what the encoder was trained on.
    assert result.notes[1].startswith("the encoder was pre-trained on footage of 2 of the 5 measured clips")
    assert result.notes[2] == "chance is 50.00 %, the most frequent class alone 60.00 %"
    # The class whose sixteen cosines have the largest mean, clip by clip.
    encoder = tmor_train.load(demo_run, device="cpu")
    scores = read_scores(place)
    motions = tmor_train.data.read_shards(shards, split="test")
    at = {key: number for number, key in enumerate(motions.clips.key_N.tolist())}
    rows = {row["sentence"]: row["vector"] for row in pq.read_table(texts).to_pylist()}
    sentences = prompts("templates", ["sit down"]), prompts("templates", ["walking"])
    for key, score_K in zip(scores.key_N.tolist(), scores.scores_NK, strict=True):
        vector = np.concatenate([v for _, v in encoder.embed_set(motions.select([at[key]]), workers=0)])
        for k in range(2):
            cosines = [float(encoder.text_cosines(vector, [rows[s]])[0, 0]) for s in sentences[k]]
            assert len(cosines) == 16
            assert score_K[k] == pytest.approx(sum(cosines) / 16, abs=1e-4)


def test_each_rescoring_is_a_result_of_motion_alone(
    demo_run: Path, shards: Path, texts: Path, tmp_path: Path, encoder: Pretrained
) -> None:
    chosen = config(demo_run, shards, texts, "prompts=plain", "visual=", "rescoring=csls,cache", "seed=3")
    zero_shot(chosen, tmp_path / "run")
    found = {result.mode: (place, result) for place, result in results_under(tmp_path / "run")}
    assert set(found) == {"zero_shot_plain", "zero_shot_plain_csls", "zero_shot_plain_cache"}
    assert any("corrected by the measured clips" in note for note in found["zero_shot_plain_csls"][1].notes)
    assert not any("corrected" in note for note in found["zero_shot_plain"][1].notes)
    plain, csls, cache = (read_scores(found[f"zero_shot_plain{how}"][0]).scores_NK for how in ("", "_csls", "_cache"))
    assert plain.shape == csls.shape == cache.shape
    assert not np.allclose(plain, csls)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of all prompts of two classes whose movements are described."""
    path = tmp_path_factory.mktemp("zero") / "described.parquet"
    sentences = all_prompts(DESCRIBED_CLASSES)
    vectors = np.random.default_rng(6).normal(size=(len(sentences), 4)).astype(np.float32)
    pq.write_table(pa.table({"sentence": sentences, "vector": list(vectors)}), path)
    return path


def test_sentences_on_parts_are_compared_with_the_features_over_these_joints(
    demo_run: Path, shards: Path, described: Path, tmp_path: Path
) -> None:
    changes = ("prompts=body_parts", "visual=", "rescoring=centred,skeleton_cache", "part_pooling=on", "part_share=0.6")
    own = f"class_texts={','.join(DESCRIBED_CLASSES)}"
    zero_shot(config(demo_run, shards, described, own, *changes), tmp_path / "run")
    found = {result.mode: place for place, result in results_under(tmp_path / "run")}
    ends = ("", "_centred", "_skeleton_cache")
    assert set(found) == {f"zero_shot_body_parts{pooled}{end}" for pooled in ("", "_pooled") for end in ends}
    encoder = tmor_train.load(demo_run, device="cpu")
    assert encoder.heads is not None
    motions = tmor_train.data.read_shards(shards, split="test")
    local = local_features_of(encoder, motions, TTAConfig(), spans=3, workers=0)
    assert local.shape == (5, 8, 256)
    rows = {row["sentence"]: row["vector"] for row in pq.read_table(described).to_pylist()}
    at = {key: number for number, key in enumerate(motions.clips.key_N.tolist())}
    pooled, whole = (read_scores(found[f"zero_shot_body_parts{end}"]) for end in ("_pooled", ""))
    for row, key in enumerate(pooled.key_N.tolist()):
        for k, words in enumerate(DESCRIBED_CLASSES):
            sentences = prompts("body_parts", [words])
            regions = encoder.project(local[at[key]])
            texts = np.array([encoder.heads.project_texts([rows[one]])[0] for one in sentences])
            cosines = [cosine(r.tolist(), t.tolist()) for r, t in zip(regions, texts, strict=False)]
            assert pooled.scores_NK[row, k] == pytest.approx(0.4 * cosines[0] + 0.6 * sum(cosines[1:]) / 4, abs=1e-4)
            of_whole = [cosine(regions[0].tolist(), text.tolist()) for text in texts]
            assert whole.scores_NK[row, k] == pytest.approx(sum(of_whole) / 5, abs=1e-4)


def test_texts_contrasted_with_their_neighbours_are_said(
    demo_run: Path, shards: Path, texts: Path, tmp_path: Path, encoder: Pretrained
) -> None:
    """Of two texts each is the other's neighbour."""
    zero_shot(
        config(demo_run, shards, texts, "prompts=plain", "text_neighbours=1", "text_contrast=0.25"), tmp_path / "run"
    )
    found = {result.mode: (place, result) for place, result in results_under(tmp_path / "run")}
    place, result = found["zero_shot_plain"]
    assert "from each class's text, 0.25 of 1 nearest ones is taken off" in result.notes
    assert not any("taken off" in note for note in found["zero_shot_plain_visual_normalised_mean"][1].notes)
    rows = {row["sentence"]: row["vector"] for row in pq.read_table(texts).to_pylist()}
    assert encoder.heads is not None
    one, other = encoder.heads.project_texts([rows["sit down"], rows["walking"]])
    motions = tmor_train.data.read_shards(shards, split="test")
    vectors = np.concatenate([v for _, v in encoder.embed_set(motions, workers=0)])
    at = {key: number for number, key in enumerate(motions.clips.key_N.tolist())}
    scores = read_scores(place)
    for key, score_K in zip(scores.key_N.tolist(), scores.scores_NK, strict=True):
        motion = encoder.project(vectors[at[key]])
        assert score_K[0] == pytest.approx(cosine(motion.tolist(), (one - 0.25 * other).tolist()), abs=1e-4)
        assert score_K[1] == pytest.approx(cosine(motion.tolist(), (other - 0.25 * one).tolist()), abs=1e-4)


@pytest.mark.slow
def test_a_run_is_resumed_and_not_begun_twice(demo_run: Path, shards: Path, texts: Path, tmp_path: Path) -> None:
    one = config(demo_run, shards, texts, "prompts=plain", "visual=score_mean,raw_mean")
    zero_shot(one, tmp_path / "run")
    kept = tmp_path / "run/plain/motion/result.json"
    before = kept.read_bytes()
    (tmp_path / "run/plain/visual_raw_mean/result.json").unlink()
    with pytest.raises(RunError, match="holds a run"):
        zero_shot(one, tmp_path / "run")
    resume(tmp_path / "run")
    assert kept.read_bytes() == before
    assert read_result(tmp_path / "run/plain/visual_raw_mean").mode == "zero_shot_plain_visual_raw_mean"


def test_mistakes_say_what_to_do(demo_run: Path, shards: Path, texts: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], match: str, *changes: str) -> None:
        with pytest.raises(kind, match=match):
            zero_shot(config(demo_run, shards, texts, *changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    refused(EncoderNotFoundError, "give --from", "start.weights=none")
    refused(UnusableEncoderError, "never trained", "start.weights=scratch")
    command = rf"prompt_vectors.py FILE shards={shards}"
    refused(MissingTextError, rf"give --texts FILE; `python pipelines/{command}` makes it", "texts=none")
    refused(MissingTextError, r"prompt_vectors\.py nowhere\.parquet shards=", "texts=nowhere.parquet")
    refused(
        MissingTextError,
        r"no vector for 2 sentences, among them 'sitting'; make it again: .*parquet --class-texts sitting going`",
        "class_texts=sitting,going",
        "prompts=plain",
    )
    refused(MissingTextError, "words for 1 classes, but there are 2", "class_texts=sitting")
    with pytest.raises(ConfigError, match="at least one set"):
        config(demo_run, shards, texts, "prompts=")
    with pytest.raises(ConfigError, match="prompts=body_parts"):
        config(demo_run, shards, texts, "part_pooling=on")
    for change, match in (("part_share=1.5", "part_share"), ("text_neighbours=-1", "text_neighbours")):
        with pytest.raises(ConfigError, match=match):
            config(demo_run, shards, texts, change)


def test_what_was_seen_before_is_said(demo_run: Path, shards: Path) -> None:
    known = as_json(recipe("pretrain_sets"))
    assert leakage_notes("penn_action", None, known) == (
        "not strictly zero-shot: clips and captions of its train part were pre-trained on",
    )
    assert "all its clips and captions were" in leakage_notes("sbu", None, known)[0]
    without = {**known, "objective": {**known["objective"], "w_mt": 0.0}}
    assert "all its clips were" in leakage_notes("sbu", None, without)[0]
    (unseen,) = leakage_notes("smarthome", None, known)
    assert unseen.startswith("pre-trained on penn_action:train, utd_mhad, ")
    assert unseen.endswith("not on smarthome by name")
    assert leakage_notes("sbu", None, None) == ("not known what the encoder was trained on",)
    own = {**known, "data": {"sets": [], "shards": [str(shards)], "split": "train"}}
    assert "clips and captions of its train part" in leakage_notes("shards", str(shards), own)[0]
    later = {**own, "loop": {"start": "checkpoint", "start_from": "/somewhere/stage1"}}
    assert leakage_notes("sbu", None, later)[1] == "it began with the weights of stage1, whose data are not known here"
