"""The settings of T-MOR's objective: where the paper's equations can be read in several ways, each reading is an
option.

The defaults are the readings closest to the paper. Terms, for an anchor (a clip of the batch as its motion feature):
its candidates are the features that it is compared with; P, its positives, and N, its negatives, are subsets of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from tmor_train.configuration import Checked

Reduction = Literal["inside", "outside", "mean_inside"]
"""How an anchor's positives are combined: ``inside``, their sum inside the logarithm (Eq. 1); ``outside``, the mean of
their logarithms; ``mean_inside``, their mean inside the logarithm."""

Positives = Literal["own", "cluster"]
"""Which video or text vectors are an anchor's positives: ``own``, its own clip's alone, or ``cluster``, also those of
the clips of its cluster."""

TextNegatives = Literal["cluster", "text", "both", "all"]
"""Which clips' texts are an anchor's negatives: those of another cluster (``cluster``), with another text (``text``),
of another cluster and with another text (``both``), or all other clips (``all``)."""

Copies = Literal["positive", "ignore"]
"""What an older key of the anchor's own clip in the queue or memory bank is: a ``positive``, as one more view of the
clip, or no candidate at all (``ignore``). It is never a negative."""

Noise = Literal["singleton", "drop"]
"""What a clip that the clustering puts in no cluster is: a cluster of its own (``singleton``), or left out of the
losses until the next clustering (``drop``)."""

Negatives = Literal["queue", "batch", "memory_bank"]
"""Which candidates there are besides the batch: the last ``queue_size`` keys (``queue``, as in MoCo), none (``batch``),
or one key per clip of the dataset, averaged over epochs (``memory_bank``)."""

Keys = Literal["ema", "same"]
"""Which encoder encodes the second view: the EMA copy, without gradient, or the trained encoder (``same``), with it."""

Head = Literal["mlp", "linear", "identity"]
"""Kind of a projection head; see :class:`tmor_train.encoder.Projection`."""

Temperature = Literal["fixed", "learned"]
"""Whether each Temp of Eq. 4 is a constant or a parameter that begins at it."""

Switch = Literal["off", "on"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Checked):
    """The objective w_mm L_mm + w_mv L_mv + w_mt L_mt: Eq. 9, and with ``w_mt=0`` Eq. 5. A loss of weight 0 is not
    built.

    Of the fields whose type is a word above, its docstring says what they are; the three ``…_head`` are phi_M, phi_V
    and phi_T, and ``temperature_…`` is the Temp of each loss. ``mv_positives`` and ``mt_positives`` are for L_mv and
    L_mt, ``mt_negatives`` for L_mt, ``own_copies`` for L_mm. ``max_positives`` and ``num_negatives`` limit |P| and |N|
    of an anchor to a random sample, which depends only on ``seed``, the step and the two clips; None sets no limit.
    ``symmetric`` adds the video-to-motion and text-to-motion directions, each direction with half of the weight.

    ``queue_size`` counts keys. ``bank_momentum`` is the weight of the earlier key in the memory bank, ``momentum`` that
    of the earlier weights in the EMA encoder and EMA head. ``width`` is the number of dimensions of all projections. A
    learned temperature starts at the given one and stays between ``lowest_temperature`` and 1.

    The paper gives none of these numbers. Queue, momentum, temperature and width are MoCo's, ``bank_momentum`` is
    SpCL's, and ``lowest_temperature`` CLIP's.

    Raises:
        ValueError: a word is unknown or a number out of its range; the message names the field.
    """

    w_mm: float = 1.0
    w_mv: float = 1.0
    w_mt: float = 1.0

    positive_reduction: Reduction = "inside"
    mv_positives: Positives = "own"
    mt_positives: Positives = "own"
    mt_negatives: TextNegatives = "both"
    own_copies: Copies = "positive"
    noise: Noise = "singleton"
    max_positives: int | None = None
    num_negatives: int | None = None
    symmetric: Switch = "off"
    seed: int = 0

    negatives: Negatives = "queue"
    queue_size: int = 65_536
    bank_momentum: float = 0.2
    keys: Keys = "ema"
    momentum: float = 0.999

    motion_head: Head = "mlp"
    video_head: Head = "mlp"
    text_head: Head = "mlp"
    width: int = 128

    temperature: Temperature = "fixed"
    temperature_mm: float = 0.07
    temperature_mv: float = 0.07
    temperature_mt: float = 0.07
    lowest_temperature: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_positives", "num_negatives", "queue_size", "width"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1; got {number}")
        for name in ("momentum", "bank_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 0 and below 1; got {getattr(self, name)}")
        for name in (field.name for field in fields(self) if field.name.startswith("temperature_")):
            if not 0 < self.lowest_temperature <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is above 0, at least lowest_temperature ({self.lowest_temperature}) and at most 1; "
                    f"got {getattr(self, name)}"
                )
        weights = (self.w_mm, self.w_mv, self.w_mt)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError(f"w_mm, w_mv and w_mt are finite, at least 0 and not all 0; got {weights}")
