"""Table V: ablation of losses by linear probing. The figures are the paper's, in percent.

Each row has a checkpoint of its own, from the recipes ``ablation_…``: ``--rows mm=runs/a mt=runs/b``.
"""

from __future__ import annotations

from tmor_train.tables.contract import SCRATCH_KEY, Column, Here, Row, Table


def _row(method: str, data: str, key: str, smarthome: float, tsu: float) -> Row:
    here = (
        Here(key=key, recipe="probe", mode="probe", columns=("smarthome",)),
        Here(key=key, recipe="detect_probe", mode="", columns=("tsu",)),
    )
    return Row(method=method, more={"Pre-training": data}, paper=(smarthome, tsu), here=here)


TABLE = Table(
    name="table5",
    title="Table V: ablation of the losses, linear probing",
    columns=(
        Column(title="Smarthome CS", benchmark="smarthome", protocol="CS", metric="mean_per_class"),
        Column(title="TSU CS", benchmark="tsu", protocol="CS", metric="nonzero"),
    ),
    sections=(
        (
            "losses",
            (
                _row("Baseline", "none", SCRATCH_KEY, 24.6, 8.1),
                _row("MM", "PoseCap-1M", "mm", 42.5, 12.8),
                _row("MV", "PoseCap-1M", "mv", 46.3, 16.3),
                _row("MT", "PoseCap-1M", "mt", 49.0, 18.6),
                _row("MM+MV", "Posetics", "posetics_mm_mv", 42.6, 12.5),
                _row("MM+MV+MT", "Posetics", "posetics_mm_mv_mt", 49.6, 18.8),
                _row("MM+MV", "PoseCap-1M", "mm_mv", 49.3, 19.8),
                _row("MM+MT", "PoseCap-1M", "mm_mt", 51.5, 21.7),
                _row("MM+MV+MT", "PoseCap-1M", "mm_mv_mt", 52.6, 23.2),
            ),
        ),
    ),
    keys={
        SCRATCH_KEY: "never trained",
        "mm": "L_mm",
        "mv": "L_mv",
        "mt": "L_mt",
        "mm_mv": "L_mm + L_mv",
        "mm_mt": "L_mm + L_mt",
        "mm_mv_mt": "L_mm + L_mv + L_mt",
        "posetics_mm_mv": "L_mm + L_mv on Posetics",
        "posetics_mm_mv_mt": "all three losses on Posetics",
    },
    notes=("Smarthome by the mean over classes, TSU by mAP over frames and the classes with an AP above 0.",),
)

__all__ = ["TABLE"]
