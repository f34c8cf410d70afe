"""Whom a query is compared with in methods with a queue: the batch's own keys and the last keys before them.

As in this project's MoCo, the other keys of the batch are candidates too, and an older key of the query's own clip is
none; in the papers' code only the queue is, with those older keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tmor_train.losses.queue import NOBODY, Entries, Queue


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Unit keys (K, D); the column of each query's own key (N,) int64; whom it is compared with (N, K) bool, its own
    key among them."""

    keys_KD: Tensor
    own_N: Tensor
    valid_NK: Tensor

    @property
    def others(self) -> Tensor:
        """Whom a query is compared with, its own key left out."""
        return self.valid_NK.scatter(1, self.own_N[:, None], False)

    def own(self) -> Tensor:
        """A query's own key alone, (N, K) bool."""
        return torch.zeros_like(self.valid_NK).scatter(1, self.own_N[:, None], True)

    def similarities(self, queries_ND: Tensor) -> Tensor:
        """Cosines of unit queries and all keys, (N, K); what is not compared holds some number, too."""
        return queries_ND @ self.keys_KD.T


def pool_of(queue: Queue, fresh: Entries, *, first: int, count: int) -> Pool:
    """The pool of ``count`` queries whose own keys are ``fresh`` from ``first`` on."""
    keys = fresh.concat(queue.negatives(fresh))
    own_N = torch.arange(first, first + count, device=keys.index_K.device)
    index_N = fresh.index_K[own_N]
    taken_K = keys.index_K != NOBODY
    valid_NK = (keys.index_K != index_N[:, None]) & taken_K
    return Pool(keys_KD=keys.motion_KD, own_N=own_N, valid_NK=valid_NK.scatter(1, own_N[:, None], True))


def multi_positive_info_nce(logits_NK: Tensor, positives_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """-mean over a query's positives of log softmax over its candidates, then the mean over queries; shape ().

    With the own key as the one positive it is InfoNCE (MoCo, Eq. 1).
    """
    logs_NK = log_shares(logits_NK, valid_NK).masked_fill(~positives_NK, 0)
    return -(logs_NK.sum(1) / positives_NK.sum(1)).mean()


def log_shares(logits_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """log softmax of logits over a query's candidates, (N, K); -inf for all others."""
    return logits_NK.masked_fill(~valid_NK, -torch.inf).log_softmax(1)


def nearest_of(similarities_NK: Tensor, others_NK: Tensor, count: int) -> Tensor:
    """The ``count`` nearest of the others, (N, K) bool; fewer where there are fewer."""
    masked = similarities_NK.detach().masked_fill(~others_NK, -torch.inf)
    top = masked.topk(min(count, masked.shape[1]), dim=1).indices
    return torch.zeros_like(others_NK).scatter(1, top, True) & others_NK
