"""Places the vectors of clips in a plane, so that clips with like vectors lie near each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from posecap.files import scratch_folder, unused_path
from posecap.types import Floats

Doubles = NDArray[np.float64]

Projection = Literal["pca", "tsne", "umap"]
"""How vectors are placed: by their two largest principal components, or by t-SNE (scikit-learn) or UMAP (umap-learn)
of their first 50 components."""
PROJECTIONS: Final[tuple[Projection, ...]] = get_args(Projection)

_COMPONENTS: Final = 50
"""Principal components that t-SNE and UMAP start from, as the papers of both do: distances in them are nearly those of
the vectors, and quick to compute."""
_BLOCK_ROWS: Final = 4096
"""Of a file of vectors, read at a time. A free choice."""


class MapPackageError(ImportError):
    """The package that computes a projection is not installed; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """Where clips lie.

    Args:
        xy_N2: float32, NaN for a clip that has no vector or one of another length than the first clip's.
        shares: of the vectors' variance, what x and y show; of ``tsne`` and ``umap``, whose axes mean nothing, empty.
    """

    xy_N2: Floats
    shares: tuple[float, ...]


class VectorFile:
    """Vectors of N clips in a file, given one by one; a context manager, which deletes it. In memory are which clips
    have one, and while a map is made a few thousand vectors and the covariance of their components (of 1,280, 13 MB).
    """

    def __init__(self) -> None:
        self._path = unused_path(scratch_folder(), "vectors")
        self._file = self._path.open("w+b")
        self._length = 0
        self._there: list[bool] = []

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, vector_D: Floats | None) -> None:
        """Add the vector of the next clip; None where it has none."""
        fits = vector_D is not None and vector_D.size > 0 and bool(np.isfinite(vector_D).all())
        if vector_D is not None and fits:
            self._length = self._length or len(vector_D)
            fits = len(vector_D) == self._length
            if fits:
                self._file.write(np.ascontiguousarray(vector_D, np.float32).tobytes())
        self._there.append(fits)

    def map(self, projection: Projection) -> Map | None:
        """Where the clips lie; None where fewer than three have a vector, of which there is nothing to see.

        The same vectors give the same map with ``pca``; with the others, with the same version of the package on the
        same machine.

        Raises:
            MapPackageError: the package of ``tsne`` or ``umap`` is not installed.
        """
        there_N = np.array(self._there, np.bool_)
        if there_N.sum() < 3:
            return None
        placed, shares = self._components(2 if projection == "pca" else _COMPONENTS)
        if projection != "pca":
            placed, shares = _embedded(placed, projection), ()
        xy_N2 = np.full((len(there_N), 2), np.nan, np.float32)
        xy_N2[there_N, : placed.shape[1]] = placed
        if placed.shape[1] < 2:  # vectors of one number
            xy_N2[there_N, 1] = 0
        return Map(xy_N2=xy_N2, shares=shares)

    def _blocks(self) -> Iterator[Doubles]:
        self._file.seek(0)
        while content := self._file.read(_BLOCK_ROWS * self._length * 4):
            yield np.frombuffer(content, np.float32).reshape(-1, self._length).astype(np.float64)

    def _components(self, most: int) -> tuple[Doubles, tuple[float, ...]]:
        """The vectors by their largest principal components, and the shares of the variance of these.

        A component's sign is free; here its largest weight is positive.
        """
        count, total_D, products_DD = 0, np.zeros(self._length), np.zeros((self._length, self._length))
        for block_ND in self._blocks():
            count += len(block_ND)
            total_D += block_ND.sum(0)
            products_DD += block_ND.T @ block_ND
        mean_D = total_D / count
        variances_D, axes_DD = np.linalg.eigh(products_DD / count - np.outer(mean_D, mean_D))
        axes_DK = axes_DD[:, ::-1][:, :most]
        largest_K = np.abs(axes_DK).argmax(0)
        axes_DK = axes_DK * np.where(axes_DK[largest_K, np.arange(axes_DK.shape[1])] < 0, -1.0, 1.0)
        variance = max(float(variances_D.clip(0).sum()), 1e-30)  # of vectors that are all the same it is 0
        shares = tuple(round(float(value) / variance, 4) for value in variances_D[::-1][:2].clip(0))
        return np.concatenate([(block_ND - mean_D) @ axes_DK for block_ND in self._blocks()]), shares


def _embedded(placed_NK: Doubles, projection: Projection) -> Doubles:
    """The components in a plane, by t-SNE or UMAP."""
    start = placed_NK.astype(np.float32)
    try:
        if projection == "tsne":
            from sklearn.manifold import TSNE

            # A perplexity of 30 is the package's own; it must be below the number of clips.
            method: Any = TSNE(n_components=2, init="pca", perplexity=min(30.0, (len(start) - 1) / 3), random_state=0)
        else:
            from umap import UMAP

            method = UMAP(n_components=2, n_neighbors=min(15, len(start) - 1), init="random", random_state=0)
    except ImportError as error:
        package = "scikit-learn" if projection == "tsne" else "umap-learn"
        raise MapPackageError(
            f"--map {projection} needs {package}, which is not installed: pip install 'posecap[maps]'"
        ) from error
    return np.asarray(method.fit_transform(start), np.float64)
