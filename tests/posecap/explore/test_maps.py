"""Vectors of clips in a plane."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from posecap.explore.maps import Map, MapPackageError, Projection, VectorFile


def mapped(vectors: list[np.ndarray | None], projection: Projection = "pca") -> Map | None:
    with VectorFile() as file:
        for vector in vectors:
            file.add(vector)
        return file.map(projection)


def clusters(count: int = 40, dimension: int = 12) -> np.ndarray:
    """Two groups of vectors, the first half of them far from the second."""
    rng = np.random.default_rng(0)
    made = rng.normal(0, 0.1, (count, dimension)).astype(np.float32)
    made[: count // 2, 3] += 5
    return made


def test_the_two_largest_principal_components() -> None:
    vectors = clusters()
    found = mapped(list(vectors))
    assert found is not None
    centred = (vectors - vectors.mean(0)).astype(np.float64)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    np.testing.assert_allclose(np.abs(found.xy_N2), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(found.shares, (values**2 / (values**2).sum())[:2], atol=1e-4)
    assert found.xy_N2[:20, 0].min() > found.xy_N2[20:, 0].max()  # the largest weight of an axis is positive


def test_clips_without_a_fitting_vector_lie_nowhere() -> None:
    vectors: list[np.ndarray | None] = list(clusters(6))
    nan = np.full(12, np.nan, np.float32)
    found = mapped([vectors[0], None, np.ones(5, np.float32), np.zeros(0, np.float32), nan, *vectors[1:]])
    assert found is not None
    assert np.isnan(found.xy_N2).all(1).tolist() == [False, *[True] * 4, *[False] * 5]
    plain = mapped(vectors)
    assert plain is not None
    np.testing.assert_array_equal(found.xy_N2[[0, 5, 6, 7, 8, 9]], plain.xy_N2)


def test_two_vectors_equal_ones_and_ones_of_one_number() -> None:
    assert mapped(list(clusters(2))) is None
    same = mapped([np.ones(4, np.float32)] * 5)
    assert same is not None
    np.testing.assert_allclose(same.xy_N2, 0, atol=1e-6)
    line = mapped([np.array([value], np.float32) for value in (1, 2, 6)])
    assert line is not None
    np.testing.assert_allclose(line.xy_N2, [[-2, 0], [-1, 0], [3, 0]], atol=1e-6)


def test_many_blocks_are_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = list(clusters())
    whole = mapped(vectors)
    monkeypatch.setattr("posecap.explore.maps._BLOCK_ROWS", 7)
    parts = mapped(vectors)
    assert whole is not None
    assert parts is not None
    np.testing.assert_allclose(parts.xy_N2, whole.xy_N2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("projection", "package"), [("tsne", "sklearn"), ("umap", "umap")])
def test_neighbours_stay_together(projection: Projection, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} computes {projection}")
    found = mapped([*clusters(), None], projection)
    assert found is not None
    assert found.shares == ()
    assert np.isnan(found.xy_N2[-1]).all()
    first, second = found.xy_N2[:20], found.xy_N2[20:40]
    apart = float(np.linalg.norm(first.mean(0) - second.mean(0)))
    assert apart > 2 * max(float(half.std(0).mean()) for half in (first, second))


@pytest.mark.parametrize(("projection", "module"), [("tsne", "sklearn.manifold"), ("umap", "umap")])
def test_a_missing_package_is_named(projection: Projection, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MapPackageError, match=r"pip install 'posecap\[maps\]'"):
        mapped(list(clusters()), projection)
