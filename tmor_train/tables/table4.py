"""Table IV: events of PKU-MMD. The figures are the paper's, mAP of events in percent by overlap (IoU)."""

from __future__ import annotations

from tmor_train.tables.contract import SCRATCH_KEY, Column, Here, Row, Table


def _row(method: str, modality: str, *paper: float | None, here: Here | None = None) -> Row:
    return Row(method=method, more={"Modality": modality}, paper=paper, here=() if here is None else (here,))


def _events(key: str) -> Here:
    return Here(key=key, recipe="detect_events", mode="")


TABLE = Table(
    name="table4",
    title="Table IV: events of PKU-MMD, cross-subject, by overlap",
    columns=tuple(
        Column(title=f"mAP@{overlap}", benchmark="pku_mmd", protocol="CS", metric=f"action_{overlap}")
        for overlap in ("0.1", "0.3", "0.5")
    ),
    sections=(
        (
            "video",
            (
                _row("GRU-GD [23]", "RGB", 82.4, 81.3, 74.3),
                _row("SSTCN-GD [6]", "RGB", 83.7, 82.1, 76.5),
                _row("Augmented-RGB [6]", "RGB", 86.3, 84.5, 81.1),
            ),
        ),
        (
            "skeletons",
            (
                _row("JCRRNN [16]", "skeleton", 45.2, None, 32.5),
                _row("Convolution skeleton [5]", "skeleton", 49.3, 31.8, 12.1),
                _row("Skeleton boxes [12]", "skeleton", 61.3, None, 54.8),
                _row("Window proposal [14]", "skeleton", 92.2, None, 90.4),
                Row(
                    method="UNIK, not in the paper's table",
                    more={"Modality": "skeleton"},
                    paper=(None, None, None),
                    here=(_events(SCRATCH_KEY),),
                ),
                _row("T-MOR", "skeleton", 94.3, 93.2, 90.7, here=_events("vmt")),
            ),
        ),
    ),
    keys={SCRATCH_KEY: "never trained", "vmt": "trained with text"},
    notes=("The paper does not say which average precision, which post-processing or how weights of 2D reach 3D.",),
)

__all__ = ["TABLE"]
