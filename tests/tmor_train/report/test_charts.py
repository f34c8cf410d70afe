"""What charts show, and how they fit into the page; embeddings as files, and in the plane."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tmor_train.report.charts import EmbeddingsError, binned, confusion, ordered, plane, read_cloud, svg
from tmor_train.report.collect import Collected, StoredResult
from tmor_train.results import Result, Scores, save


def _kept(*per_class: float | None) -> StoredResult:
    result = Result(
        benchmark="b",
        protocol="p",
        mode="m",
        recipe="r",
        seed=0,
        checkpoint=None,
        metrics={"top1": 0.5},
        primary_metric="top1",
        per_class=per_class,
        classes=tuple("abcd"),
    )
    return StoredResult(Path("x"), "x", result)


def test_classes_stand_by_the_first_results_figures_and_those_without_any_are_left_out() -> None:
    assert ordered([_kept(0.5, None, 0.0, None), _kept(None, 0.1, 0.9, None)], 4) == [1, 2, 0]


def test_damaged_scores_are_named_and_results_without_scores_have_no_matrix(tmp_path: Path) -> None:
    result = replace(_kept(0.5, None, 0.0, None).result, classes=("a", "b"), per_class=())
    scores = Scores(np.eye(2, dtype=np.float32), np.arange(2), np.array(["k0", "k1"]))
    kept = []
    for mode in ("whole", "damaged", "wide", "bare"):
        folder, one = tmp_path / mode, replace(result, mode=mode)
        if mode == "wide":
            save(one, folder, scores=replace(scores, scores_NK=np.ones((2, 3), np.float32)))
        else:
            save(one, folder, scores=None if mode == "bare" else scores)
        kept.append(StoredResult(folder, mode, one))
    (tmp_path / "damaged/scores.npz").write_bytes(b"PK")
    blocks = list(confusion(Collected(folder=tmp_path, results=kept)))
    assert [block.text.partition(" ")[0] for block in blocks if block.text] == [
        str(tmp_path / "damaged/scores.npz"),
        str(tmp_path / "wide/scores.npz"),
    ]
    assert [chart.caption for block in blocks for chart in block.charts] == ["whole: every clip is recognized"]


def test_lines_of_a_picture_take_the_colour_of_the_page() -> None:
    def draw(figure: object) -> None:
        figure.add_subplot().set_title("words")  # type: ignore[attr-defined]

    picture = svg(draw, width=2, height=2, name="a")
    assert picture.startswith("<svg")
    assert "currentColor" in picture
    assert "#010203" not in picture
    assert "<metadata>" not in picture
    assert svg(draw, width=2, height=2, name="a") == picture


def test_long_recordings_keep_their_peaks() -> None:
    score_TK = np.zeros((5000, 2), np.float32)
    score_TK[4321, 1] = 0.9
    strip = binned(score_TK)
    assert strip.shape == (2, 800)
    assert strip[1].max() == np.float32(0.9)
    assert (strip[1] > 0).sum() == 1
    np.testing.assert_array_equal(binned(score_TK[:30]), score_TK[:30].T)


def _file(path: Path, vectors: list[list[float]], labels: list[str | None]) -> Path:
    pq.write_table(pa.table({"key": list(map(str, range(len(labels)))), "label": labels, "embedding": vectors}), path)
    return path


def test_a_cloud_has_its_classes_by_number(tmp_path: Path) -> None:
    path = _file(tmp_path / "e.parquet", [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], ["b", None, "a"])
    cloud = read_cloud(path)
    assert cloud.classes == ("a", "b")
    assert cloud.label_N.tolist() == [1, -1, 0]
    assert cloud.vectors_ND.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_of_many_an_even_choice_is_taken(tmp_path: Path) -> None:
    path = _file(tmp_path / "e.parquet", [[float(n), 1.0] for n in range(6001)], ["a"] * 6001)
    rows = read_cloud(path).vectors_ND[:, 0]
    assert len(rows) == 2000
    assert (rows[0], rows[-1]) == (0, 6000)
    assert set(np.diff(rows).tolist()) <= {3.0, 4.0}


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([[1.0], [2.0]], "too few"),
        ([[1.0], [2.0], [float("inf")]], "not finite"),
        ([[1.0], [2.0], [0.0]], "no direction"),
        ([[1.0], [2.0, 3.0], [1.0]], "e.parquet"),
    ],
)
def test_bad_embeddings_are_named(vectors: list[list[float]], said: str, tmp_path: Path) -> None:
    path = _file(tmp_path / "e.parquet", vectors, ["a"] * len(vectors))
    with pytest.raises(EmbeddingsError, match=said):
        read_cloud(path)
    with pytest.raises(EmbeddingsError, match="nowhere"):
        read_cloud(tmp_path / "nowhere.parquet")


def test_a_label_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    latin = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xfc"], pa.binary()).buffers())
    pq.write_table(pa.table({"label": latin, "embedding": [[1.0, 2.0]]}), path)
    with pytest.raises(EmbeddingsError, match=r"e\.parquet holds no embeddings: .*utf-8"):
        read_cloud(path)


def test_without_scikit_learn_the_plane_is_that_of_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.manifold", None)
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(20, 6)).astype(np.float32) * np.array([5, 3, 1, 1, 1, 1], np.float32)
    found, how = plane(vectors)
    assert "principal components" in how
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values, axes = np.linalg.eigh(np.cov(unit.T))
    wanted = (unit - unit.mean(0)) @ axes[:, np.argsort(-values)[:2]]
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-4)


def test_t_sne_keeps_groups_apart() -> None:
    pytest.importorskip("sklearn")
    draw = np.random.default_rng(0)
    centres = np.eye(3, 8) * 10
    vectors = np.concatenate([centres[k] + draw.normal(0, 0.1, (15, 8)) for k in range(3)]).astype(np.float32)
    found, how = plane(vectors)
    assert how.startswith("t-SNE")
    group = np.repeat(np.arange(3), 15)
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (group[distances.argmin(1)] == group).all()
