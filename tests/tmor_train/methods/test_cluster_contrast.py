"""ClusterContrast's loss and centroids, against its equations as plain loops."""

import math

import pytest
import torch

from tmor_train.methods.cluster_contrast import ClusterContrast, centroid_contrast, cluster_means, update_centroids


def units(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def test_the_loss_is_equation_4_without_noise_and_unknown_centroids() -> None:
    torch.manual_seed(0)
    queries, centroids = units(5, 8), units(4, 8)
    centroids[3] = 0  # not known yet
    target = torch.tensor([0, -1, 2, 1, 3])
    total = 0.0
    for n in (0, 2, 3):
        shares = [math.exp(float(queries[n] @ centroids[k]) / 0.05) for k in range(3)]
        total -= math.log(shares[int(target[n])] / sum(shares))
    loss, kept = centroid_contrast(queries, centroids, target, scale=20.0)
    assert float(loss) == pytest.approx(total / 3)
    assert float(kept) == pytest.approx(3 / 5)


def test_a_batch_of_noise_is_no_loss_and_no_gradient() -> None:
    queries = units(2, 8).requires_grad_()
    loss, kept = centroid_contrast(queries, units(3, 8), torch.tensor([-1, -1]), scale=20.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert (float(loss.detach()), float(kept)) == (0, 0)
    assert queries.grad is not None
    assert not queries.grad.any()


def test_centroids_begin_as_their_clusters_means() -> None:
    torch.manual_seed(0)
    embeddings = units(6, 8)
    found = cluster_means(embeddings, torch.tensor([1, 0, 1, -1, 0, 1]))
    for cluster, members in enumerate(([1, 4], [0, 2, 5])):
        mean = sum(embeddings[m] for m in members) / len(members)
        torch.testing.assert_close(found[cluster], mean / mean.norm())


@pytest.mark.parametrize("update", ["each", "hardest"])
def test_queries_move_centroids_by_equation_6(update: str) -> None:
    torch.manual_seed(0)
    centroids, queries, target = units(3, 8), units(5, 8), [2, 0, 2, -1, 2]
    wanted = centroids.clone()
    rows = [0, 1, 2, 4]
    if update == "hardest":
        rows = [1, min((0, 2, 4), key=lambda row: float(queries[row] @ centroids[2]))]
    for row in rows:
        mixed = 0.2 * wanted[target[row]] + 0.8 * queries[row]
        wanted[target[row]] = mixed / mixed.norm()
    update_centroids(centroids, queries, torch.tensor(target), momentum=0.2, update=update)  # type: ignore[arg-type]
    torch.testing.assert_close(centroids, wanted)
    assert torch.equal(centroids[1], wanted[1])


def test_the_past_weighs_less_than_all() -> None:
    with pytest.raises(ValueError, match="below 1, not 1"):
        ClusterContrast(momentum=1.0)
