"""Tables I to V of the paper (arXiv 2606.21607) as data: its figures in percent, and the recipes that reproduce a
row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

SCRATCH_KEY = "scratch"
"""The key of rows of an encoder that was never trained, for which no checkpoint is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One metric of one ``protocol`` of a ``benchmark``: ``metric`` is its name among those of a result, ``title`` the
    paper's words."""

    title: str
    benchmark: str
    protocol: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """How a row is measured again.

    ``recipe`` is run for each column with the checkpoint that is named for ``key``; of its results those of ``mode``
    are taken (empty: all). ``words`` tell several reproductions of one row apart. ``benchmarks`` are those whose
    columns it measures (empty: all), for rows that need one recipe for clips and another for frames.
    """

    key: str
    recipe: str
    mode: str
    words: str = ""
    benchmarks: tuple[str, ...] = ()

    def measures(self, column: Column) -> bool:
        return not self.benchmarks or column.benchmark in self.benchmarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table of the paper. ``paper`` has its figure in percent for each column, None where the paper has a
    dash. ``more`` are its other cells, by heading. ``reproductions`` is empty for methods of other works."""

    method: str
    paper: tuple[float | None, ...]
    more: Mapping[str, str] = field(default_factory=dict)
    reproductions: tuple[Reproduction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the paper: the ``name`` that its recipe has, and its ``title``.

    ``sections`` are its parts from top to bottom, each a heading and rows. ``keys`` are the words that ``--rows
    KEY=CHECKPOINT`` takes, each with its meaning. ``notes`` are sentences needed to compare figures.

    Raises:
        ValueError: a row has another number of figures than there are columns, or a key that is not in ``keys``.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    sections: tuple[tuple[str, tuple[Row, ...]], ...]
    keys: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.paper) != len(self.columns):
                raise ValueError(
                    f"{self.name}: {row.method} has {len(row.paper)} figures for {len(self.columns)} columns"
                )
            if unknown := [one.key for one in row.reproductions if one.key not in self.keys]:
                raise ValueError(f"{self.name}: {row.method} is measured with {unknown[0]!r}, which is not in keys")

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all sections, from top to bottom."""
        return tuple(row for _, rows in self.sections for row in rows)


# The keys of Tables I and II.
_STAGES = {SCRATCH_KEY: "never trained", "vm": "trained without text", "vmt": "trained with text"}


def _row(headings: tuple[str, ...], method: str, *cells: str | float | None, by: tuple[Reproduction, ...] = ()) -> Row:
    """A row; ``cells`` are a text for each of ``headings``, then the figures."""
    words, figures = cells[: len(headings)], cells[len(headings) :]
    more = {heading: str(word) for heading, word in zip(headings, words, strict=True)}
    return Row(method=method, more=more, paper=tuple(x for x in figures if not isinstance(x, str)), reproductions=by)


def _by(recipe: str, mode: str, key: str) -> tuple[Reproduction, ...]:
    """The one way to measure a row."""
    return (Reproduction(key=key, recipe=recipe, mode=mode),)


# Tables I and II have columns for pre-training and backbone.
_pretrained = partial(_row, ("Pre-training", "Backbone"))
_probe, _tuned = partial(_by, "probe", "probe"), partial(_by, "finetune", "finetune")
_detect_probe, _detect_tuned = partial(_by, "detect_probe", ""), partial(_by, "detect_finetune", "")

TABLE_1 = Table(
    name="table1",
    title="Table I: action classification on Smarthome, UAV-Human and Penn Action",
    columns=(
        Column(title="Smarthome CS", benchmark="smarthome", protocol="CS", metric="mean_per_class"),
        Column(title="Smarthome CV2", benchmark="smarthome", protocol="CV2", metric="mean_per_class"),
        Column(title="UAV-Human CS1", benchmark="uav_human", protocol="CSv1", metric="top1"),
        Column(title="UAV-Human CS2", benchmark="uav_human", protocol="CSv2", metric="top1"),
        Column(title="Penn Action Top-1", benchmark="penn_action", protocol="official", metric="top1"),
    ),
    sections=(
        (
            "linear probing",
            (
                _pretrained("Previous SoTA [39]", "Posetics", "UNIK", 51.9, 52.2, 32.9, 56.1, 97.3),
                _pretrained("UNIK [38]", "none", "UNIK", 24.6, 20.7, 3.8, 4.1, 29.8, by=_probe(SCRATCH_KEY)),
                _pretrained("T-MOR", "PoseCap-1M (V+M)", "UNIK", 49.3, 46.4, 27.6, 43.4, 86.3, by=_probe("vm")),
                _pretrained("T-MOR", "PoseCap-1M (V+M+T)", "UNIK", 52.6, 53.4, 33.5, 60.1, 97.8, by=_probe("vmt")),
            ),
        ),
        (
            "fine-tuning",
            (
                _pretrained("3s-CrosSCLR [15]", "Posetics", "ST-GCN", 52.6, 58.1, 40.0, None, 95.2),
                _pretrained("AimCLR [31]", "Posetics", "AGCN", 62.7, 61.1, 40.5, None, 96.6),
                _pretrained("MotionBERT [41]", "Human3.6M", "Transformer", 64.2, 63.7, None, None, None),
                _pretrained("ViA [39]", "Posetics", "UNIK", 64.5, 65.2, 42.6, 69.5, 98.0),
                _pretrained("ViA [39]", "PoseCap-1M", "UNIK", 64.9, 65.8, 43.3, None, None),
                _pretrained("UNIK, not in the paper's table", "none", "UNIK", *[None] * 5, by=_tuned(SCRATCH_KEY)),
                _pretrained("T-MOR", "PoseCap-1M (V+M)", "UNIK", 63.2, 61.8, 40.4, 67.8, 96.2, by=_tuned("vm")),
                _pretrained("T-MOR", "PoseCap-1M (V+M+T)", "UNIK", 66.2, 66.7, 44.4, 70.8, 98.2, by=_tuned("vmt")),
            ),
        ),
    ),
    keys=_STAGES,
    notes=(
        "Smarthome by the mean over classes, which is how its tables are made (the paper says only CS(%)); the others "
        "by Top-1. Both stand in each result.",
    ),
)
"""Table I: classification of clips by linear probing and fine-tuning."""

TABLE_2 = Table(
    name="table2",
    title="Table II: action detection on Toyota Smarthome Untrimmed and Charades",
    columns=(
        Column(title="TSU CS", benchmark="tsu", protocol="CS", metric="nonzero"),
        Column(title="TSU CV", benchmark="tsu", protocol="CV", metric="nonzero"),
        Column(title="Charades", benchmark="charades", protocol="official", metric="all_classes"),
    ),
    sections=(
        (
            "linear probing",
            (
                _pretrained("Previous SoTA [7]", "PoseCap-1M (M)", "UNIK", 15.2, 18.1, 7.7),
                _pretrained("UNIK [38]", "none", "UNIK", 8.1, 6.9, 6.1, by=_detect_probe(SCRATCH_KEY)),
                _pretrained("T-MOR", "PoseCap-1M (V+M)", "UNIK", 19.8, 12.6, 11.3, by=_detect_probe("vm")),
                _pretrained("T-MOR", "PoseCap-1M (V+M+T)", "UNIK", 23.2, 19.4, 16.6, by=_detect_probe("vmt")),
            ),
        ),
        (
            "fine-tuning",
            (
                _pretrained("Bi-LSTM [10]", "Smarthome", "LSTM", 17.0, 14.8, 8.2),
                _pretrained("TGM [27]", "Smarthome", "TCN", 26.7, 13.4, 9.0),
                _pretrained("SD-TCN [7]", "Smarthome", "AGCN", 26.2, 22.4, 9.8),
                _pretrained("SD-TCN [7]", "PoseCap-1M (M)", "UNIK", 31.2, 22.8, 16.5),
                _pretrained("UNIK [38]", "none", "UNIK", 28.2, 11.0, 18.6, by=_detect_tuned(SCRATCH_KEY)),
                _pretrained("T-MOR", "PoseCap-1M (V+M)", "UNIK", 33.4, 21.9, 18.3, by=_detect_tuned("vm")),
                _pretrained("T-MOR", "PoseCap-1M (V+M+T)", "UNIK", 38.3, 23.6, 26.0, by=_detect_tuned("vmt")),
            ),
        ),
    ),
    keys=_STAGES,
    notes=(
        "mAP by frames over all frames. TSU: over the classes with an AP above 0, as its evaluation has it; Charades: "
        "over all classes. The paper says for neither which it is.",
    ),
)
"""Table II: frame-wise detection, mAP over frames."""

_recognition = partial(_row, ())
_PROMPTS = {"plain": "the class alone", "person": "“a video of a person …”", "templates": "sixteen templates"}


def _zero_shot(visual: str, words: str) -> tuple[Reproduction, ...]:
    """A measurement for each set of prompts; ``visual`` ends the mode, ``words`` begin the line."""
    return tuple(
        Reproduction(key="vmt", recipe="zero_shot", mode=f"zero_shot_{name}{visual}", words=f"{words}, {prompt}")
        for name, prompt in _PROMPTS.items()
    )


_DESCRIBED = Reproduction(
    key="vmt",
    recipe="zero_shot_movement",
    mode="zero_shot_movement",
    words="motion only, what the body does",
    benchmarks=("penn_action",),
)

TABLE_3 = Table(
    name="table3",
    title="Table III: zero-shot transfer to Smarthome and Penn Action",
    columns=(
        Column(title="Smarthome CS", benchmark="smarthome", protocol="CS", metric="top1"),
        Column(title="Smarthome CV2", benchmark="smarthome", protocol="CV2", metric="top1"),
        Column(title="Penn Action Top-1", benchmark="penn_action", protocol="official", metric="top1"),
    ),
    sections=(
        (
            "video and text",
            (
                _recognition("CLIP [28]", 10.1, 13.6, 63.1),
                _recognition("XCLIP [24]", 16.5, 14.8, 72.7),
                _recognition("ViCLIP [33]", 15.4, 14.6, 74.3),
            ),
        ),
        ("motion and text", (_recognition("MotionCLIP [30]", 2.6, 2.2, 6.1),)),
        (
            "questions about video",
            (
                _recognition("Video-LLaVA [18]", 7.2, 2.5, 60.5),
                _recognition("LLaVA-OneVision [13]", 8.0, 6.4, 57.1),
                _recognition("LAVIDAL [4]", 9.1, 6.8, 43.4),
                _recognition("Video-ChatGPT [25]", 6.0, 2.4, 13.4),
            ),
        ),
        (
            "T-MOR",
            (
                _recognition("T-MOR (motion only)", 14.5, 7.0, 69.5, by=(*_zero_shot("", "motion only"), _DESCRIBED)),
                _recognition(
                    "T-MOR (motion + visual)",
                    *(21.9, 17.4, 80.9),
                    by=_zero_shot("_visual_normalised_mean", "motion + visual"),
                ),
            ),
        ),
    ),
    keys={"vmt": "trained with text"},
    notes=(
        "The paper names no prompts, so several sets of them are measured. What the body does is known in words for "
        "Penn Action alone, and suits encoders that learned from such sentences.",
        "Motion + visual needs video vectors of the clips, which skeleton files do not have.",
        "Chance is 3.2 % on Smarthome CS (31 classes), 5.3 % on CV2 (19) and 6.7 % on Penn Action (15).",
    ),
)
"""Table III: zero-shot recognition, Top-1."""

_events = partial(_row, ("Modality",))
_detect_events = partial(_by, "detect_events", "")

TABLE_4 = Table(
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
                _events("GRU-GD [23]", "RGB", 82.4, 81.3, 74.3),
                _events("SSTCN-GD [6]", "RGB", 83.7, 82.1, 76.5),
                _events("Augmented-RGB [6]", "RGB", 86.3, 84.5, 81.1),
            ),
        ),
        (
            "skeletons",
            (
                _events("JCRRNN [16]", "skeleton", 45.2, None, 32.5),
                _events("Convolution skeleton [5]", "skeleton", 49.3, 31.8, 12.1),
                _events("Skeleton boxes [12]", "skeleton", 61.3, None, 54.8),
                _events("Window proposal [14]", "skeleton", 92.2, None, 90.4),
                _events("UNIK, not in the paper's table", "skeleton", *[None] * 3, by=_detect_events(SCRATCH_KEY)),
                _events("T-MOR", "skeleton", 94.3, 93.2, 90.7, by=_detect_events("vmt")),
            ),
        ),
    ),
    keys={SCRATCH_KEY: "never trained", "vmt": "trained with text"},
    notes=("The paper does not say which average precision, which post-processing or how weights of 2D reach 3D.",),
)
"""Table IV: events of PKU-MMD, mAP of events by overlap (IoU)."""

_ablation = partial(_row, ("Pre-training",))


def _probes(key: str) -> tuple[Reproduction, ...]:
    """Linear probes of clips and of frames."""
    return (
        Reproduction(key=key, recipe="probe", mode="probe", benchmarks=("smarthome",)),
        Reproduction(key=key, recipe="detect_probe", mode="", benchmarks=("tsu",)),
    )


TABLE_5 = Table(
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
                _ablation("Baseline", "none", 24.6, 8.1, by=_probes(SCRATCH_KEY)),
                _ablation("MM", "PoseCap-1M", 42.5, 12.8, by=_probes("mm")),
                _ablation("MV", "PoseCap-1M", 46.3, 16.3, by=_probes("mv")),
                _ablation("MT", "PoseCap-1M", 49.0, 18.6, by=_probes("mt")),
                _ablation("MM+MV", "Posetics", 42.6, 12.5, by=_probes("posetics_mm_mv")),
                _ablation("MM+MV+MT", "Posetics", 49.6, 18.8, by=_probes("posetics_mm_mv_mt")),
                _ablation("MM+MV", "PoseCap-1M", 49.3, 19.8, by=_probes("mm_mv")),
                _ablation("MM+MT", "PoseCap-1M", 51.5, 21.7, by=_probes("mm_mt")),
                _ablation("MM+MV+MT", "PoseCap-1M", 52.6, 23.2, by=_probes("mm_mv_mt")),
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
"""Table V: ablation of losses by linear probing. A checkpoint is named for each row, ``--rows mm=runs/a mt=runs/b``, of
the recipes ``ablation_…``."""

TABLES: Mapping[str, Table] = {table.name: table for table in (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5)}
"""By name."""
