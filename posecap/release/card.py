"""``card.md``: the dataset card in the Hugging Face Hub's format, generated from the build's results.

It contains no times: the same dataset has the same card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from posecap import __version__
from posecap.joints import LAYOUTS
from posecap.release.dataset_info import MODELS, DatasetInfo, hub_identifier, license_url
from posecap.shards.atomic_commit import write_file
from posecap.status.stage_stats import LOST
from posecap.weights.registry import REGISTRY

CARD_FILE = "card.md"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LONGEST_TABLE = 40
_QUALITY_WORDS = {
    "coverage": "share of frames in which a tracked person is seen",
    "mean_score": "mean score of seen joints",
    "zero_pose_share": "share of a person's frames without any joint",
    "jitter": "how far joints stray from even motion, in body sizes",
    "bone_jump_share": "share of bones whose length jumps between frames",
    "identity_switches": "moments at which people seem to be exchanged",
    "motion": "how much the liveliest person moves, in body sizes",
}


def make_card(info: DatasetInfo, *, languages: Sequence[str] = ("en",)) -> str:
    """The card as Markdown with YAML front matter.

    Args:
        languages: of the captions, as ISO 639-1 codes.
    """
    front = yaml.safe_dump(_front_matter(info, languages), sort_keys=False, allow_unicode=True, width=100)
    sections = (
        _opening(info),
        _contents(info),
        _loading(info),
        _making(info),
        _quality(info),
        _terms(info),
        _people(info),
        _limits(info),
    )
    return f"---\n{front}---\n\n" + "\n\n".join("\n".join(section) for section in sections) + "\n"


def write(card: str, root: Path) -> Path:
    """Write ``card.md`` into a dataset's folder, whole or not at all. The Hub wants it as ``README.md``."""
    path = root / CARD_FILE
    write_file(path, card.encode())
    return path


def _front_matter(info: DatasetInfo, languages: Sequence[str]) -> dict[str, Any]:
    identifier = hub_identifier(info.license)
    license: dict[str, Any] = {"license": identifier or "other"}
    if identifier is None:
        license["license_name"] = re.sub(r"[^a-z0-9.]+", "-", info.license.lower()).strip("-") or "unnamed"
        if url := license_url(info.license):
            license["license_link"] = url
    return {
        "pretty_name": f"{info.name} {info.version}",
        **license,
        "language": list(languages),
        "task_categories": ["video-classification", "keypoint-detection", "feature-extraction"],
        "tags": ["skeleton", "pose-estimation", "action-recognition", "webdataset", "posecap"],
        "size_categories": [next((name for most, name in _SIZES if info.clips < most), "10M<n<100M")],
        "configs": [
            _config("samples", info, "data/{}/pose-*.tar"),
            _config("index", info, "index/{}-*.parquet"),
        ],
    }


def _config(name: str, info: DatasetInfo, pattern: str) -> dict[str, Any]:
    """The Hub's split names are made of letters, digits and underscores."""
    files = [{"split": split.replace("-", "_"), "path": pattern.format(split)} for split in info.splits]
    return {"config_name": name, **({"default": True} if name == "samples" else {}), "data_files": files}


def _opening(info: DatasetInfo) -> Iterator[str]:
    yield f"# {_plain(info.name)} {_plain(info.version)}"
    if info.description:
        yield ""
        yield _plain(info.description)
    yield ""
    layouts = ", ".join(
        f"{layout} ({len(LAYOUTS[layout].names)} joints)" for layout in info.counted("layout") if layout
    )
    video = "and the clips themselves as mp4" if info.store_video == "clip" else "but no video"
    yield (
        f"{info.clips:,} clips of people, each with tracked skeletons ({layouts or 'none yet'}) in pixels of the "
        f"source video, presentation times, captions, and frozen feature vectors of video and text, {video}. "
        f"Made with posecap {__version__}."
    )


def _contents(info: DatasetInfo) -> Iterator[str]:
    yield "## Contents"
    yield ""
    rows = [
        [r["split"], f"{r['clips']:,}", f"{r['videos']:,}", f"{r['people']:,}", f"{r['frames']:,}", f"{r['hours']:.2f}"]
        for r in info.by_split()
    ]
    yield from _table(["split", "clips", "source videos", "tracked people", "frames", "hours"], rows)
    labels = {label: count for label, count in info.counted("label").items() if label is not None}
    if labels:
        yield ""
        yield f"{len(labels):,} labels" + (", the commonest:" if len(labels) > _LONGEST_TABLE else ":")
        yield ""
        yield from _table(["label", "clips"], _counts(labels))
    repeated = info.content_duplicates()
    if repeated["spans"]:
        yield ""
        yield (
            f"{repeated['clips']:,} clips share their footage with another one ({repeated['spans']:,} spans, under "
            "other rows or labels); `source_id`, `start_seconds` and `end_seconds` in the index tell which."
        )


def _loading(info: DatasetInfo) -> Iterator[str]:
    split = info.splits[0] if info.splits else "train"
    yield from (
        "## How to load",
        "",
        "```python",
        "import posecap  # pip install posecap",
        "",
        f'for sample in posecap.open("path/or/url", split="{split}"):',
        '    sample["joints"]  # (M people, T frames, J joints, 3): x and y in pixels, score; zeros if unseen',
        '    sample["pts"]  # (T) seconds on the source video\'s clock',
        '    sample["video"], sample["text"]  # feature vectors: (D), (captions, D)',
        '    sample["captions"]',
        "",
        'table = posecap.index("path/or/url")  # one row per clip: source, span, size, quality, license, models',
        'sample = posecap.read("path/or/url", table["key"][0].as_py())',
        "```",
        "",
        "The shards are plain WebDataset tars of `.npy`, `.txt` and `.json` members, readable without posecap.",
    )


def _making(info: DatasetInfo) -> Iterator[str]:
    tally = info.stage_stats.tally
    yield "## How it was made"
    yield ""
    yield (
        f"Of {tally.rows.total():,} rows in the manifest {tally.rows['kept']:,} gave clips, "
        f"{tally.rows['rejected']:,} were rejected, {tally.rows['failed']:,} failed and "
        f"{tally.rows['quarantined']:,} took their worker down. What went into each step and what was left out:"
    )
    yield ""
    lines = info.stage_stats.lines()
    yield from _table(
        ["stage", "of", "in", "out", "left out, by reason"],
        [
            [
                line.stage,
                line.unit,
                f"{line.entered:,}",
                f"{line.left:,}",
                _reasons(line.lost[status] for status in LOST),
            ]
            for line in lines
        ],
    )
    weights = info.lineage.get("weights", {})
    if weights:
        yield from ("", "Models:", "")
        known = [(name, sha256, REGISTRY.get(name)) for name, sha256 in sorted(weights.items())]
        yield from _table(
            ["weights", "what", "license", "SHA-256"],
            [[n, w.about if w else "", w.license if w else "not stated", sha] for n, sha, w in known],
        )
    yield from ("", "Engines behind the clips:", "")
    yield from _table(["step", "engine", "clips"], _engines(info))
    yield from ("", f"Fingerprint of the pipeline: `{info.fingerprint}`.")


def _engines(info: DatasetInfo) -> list[list[str]]:
    return [
        [column.removesuffix("_model"), engine or "none", f"{count:,}"]
        for column in MODELS
        for engine, count in info.counted(column).items()
    ]


def _quality(info: DatasetInfo) -> Iterator[str]:
    yield "## Quality of the skeletons"
    yield ""
    yield "Measured on every clip and stored in the index, so that you can choose your own thresholds:"
    yield ""
    columns = ("p05", "p25", "median", "p75", "p95")
    yield from _table(
        ["measure", "what it is", *columns],
        [
            [name, _QUALITY_WORDS.get(name, ""), *(f"{found[column]:.4g}" for column in columns)]
            for name, found in info.quality().items()
            if found is not None
        ],
    )


def _terms(info: DatasetInfo) -> Iterator[str]:
    url = license_url(info.license)
    yield "## Licenses"
    yield ""
    yield (f"This dataset (skeletons, vectors, captions): {_plain(info.license)}" + (f", <{url}>" if url else "") + ".")
    yield "The videos that it was made from keep their own terms; the index has them per clip in `license`:"
    yield ""
    yield from _table(["license of the source video", "clips"], _counts(info.counted("license")))


def _people(info: DatasetInfo) -> Iterator[str]:
    stored = (
        "No frame of any video is in this dataset (`store_video: none`)."
        if info.store_video == "none"
        else "This dataset holds the clips themselves (`store_video: clip`): faces and surroundings can be seen."
    )
    yield from (
        "## The people in the videos",
        "",
        f"{stored} Skeletons are nevertheless personal data where the person can be identified: from the source "
        "video that `uri` points to, or from the way somebody moves.",
        "",
        "- Consent: the license of a video is its maker's permission, not that of the people in it. Whoever publishes "
        "or uses this dataset needs a lawful ground for processing their data.",
        f"- Removal: write to {_plain(info.contact)}, with the video or the clip's key. The clip is then removed "
        "from shards, columns and index with `posecap remove`, and later builds leave it out. If you hold a copy, take "
        "over `tombstones.json` from newer versions: readers skip what it lists.",
        "- Not for recognising people, by gait or otherwise, and not for deciding about them.",
    )


def _limits(info: DatasetInfo) -> Iterator[str]:
    weak = info.quality().get("mean_score")
    yield from (
        "## Limits",
        "",
        "- Joints are estimates of a model, not annotations"
        + (f" (median of the clips' mean joint scores: {weak['median']:.2f})" if weak else "")
        + "; hidden joints may be guessed.",
        "- Identities hold within one clip only and may be exchanged where people cross (`identity_switches`).",
        "- Small, occluded and unusual people are missed more often than others, and who is missed follows the models' "
        "training data; the table above says how much was left out and why, not who.",
        "- Captions are those of the source rows, phrases made from labels, or a model's: see `caption_origins`.",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table of at most 40 rows; the rest is counted in the last."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join([' --- '] * len(head))}|"
    for row in rows[:_LONGEST_TABLE]:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"
    if len(rows) > _LONGEST_TABLE:
        yield f"| … {len(rows) - _LONGEST_TABLE:,} more |{' |' * (len(head) - 1)}"


def _counts(counts: Mapping[str | None, int] | Mapping[str, int]) -> list[list[str]]:
    return [[value or "not stated", f"{count:,}"] for value, count in counts.items()]


def _reasons(lost: Iterable[Mapping[str, int]]) -> str:
    return ", ".join(f"{reason} {count:,}" for reasons in lost for reason, count in reasons.items())


def _plain(text: str) -> str:
    """Words from outside as words: on one line, and neither table, tag nor link."""
    return re.sub(r"([\\|<>\[\]*_`&])", r"\\\1", " ".join(text.split()))
