"""``card.md``: the dataset card in the Hugging Face Hub's format, generated from the build's results.

Its text is in ``card.md.jinja``. It contains no times: the same dataset has the same card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from posecap import __version__
from posecap.joints import LAYOUTS
from posecap.outcomes import LOST, StageLine
from posecap.release.dataset_info import MODELS, QUALITY, DatasetInfo, hub_identifier, license_url
from posecap.shards import INDEX_SCHEMA
from posecap.skeletons import MEASURES
from posecap.weights.registry import REGISTRY

if TYPE_CHECKING:
    from jinja2 import Template

CARD_FILE = "card.md"
"""Upload it to the Hugging Face Hub under the name ``README.md``."""
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""The Hub's words for sizes, and below how many clips each is used; above them it is the last one's successor."""
_FEATURES: list[dict[str, Any]] = [
    {"name": "joints.npy", "list": {"list": {"list": {"list": "float32"}}}},
    {"name": "pts.npy", "list": "float64"},
    {"name": "video.npy", "list": "float32"},
    {"name": "text.npy", "list": {"list": "float32"}},
    {"name": "txt", "dtype": "string"},
    {"name": "json", "dtype": "json"},
    {"name": "__key__", "dtype": "string"},
    {"name": "__url__", "dtype": "string"},
]
"""The columns of the tars as Hugging Face datasets reads them, as it writes their types. Facts are JSON, with whatever
keys a clip has."""
_FACTS = (
    *("row_id", "uri", "source_id", "split", "label", "license", "source"),
    *("start_seconds", "end_seconds", "fps", "width", "height", "codec", "layout"),
)
"""Facts that every clip has, under their names in the index."""
_DTYPES = {"double": "float64"}
"""Types for which Hugging Face datasets has another name than Arrow."""
_ABOUT_VIDEO = {
    "none": (
        "but no video. Made with",
        "No frame of any video is in this dataset (`store_video: none`).",
    ),
    "clip": (
        "and the clips themselves as mp4. Made with",
        "This dataset holds the clips themselves (`store_video: clip`): faces and surroundings can be seen.",
    ),
}
"""What the card says at its beginning and of the people in the videos, by what is stored of them."""
_LONGEST_TABLE = 40
"""Rows of a table. Our choice, a page or so; the card says how many more there are."""
_QUANTILES = ("p05", "p25", "median", "p75", "p95")
"""Of :data:`posecap.release.dataset_info.QUANTILES`, those in the table of quality."""


def make_card(info: DatasetInfo, *, languages: Sequence[str] = ("en",)) -> str:
    """The card as Markdown with YAML front matter.

    Args:
        languages: of the captions, as ISO 639-1 codes; nothing checks them.
    """
    quality = {name: found for name, found in info.quality().items() if found is not None}
    known = {n: sha256 for member in info.extra.values() for n, sha256 in member.weights.items()}
    known |= info.lineage.get("weights", {})
    weights = [(n, sha256, REGISTRY.get(n)) for n, sha256 in sorted(known.items())]
    return _template().render(
        info=info,
        posecap_version=__version__,
        about_video=_ABOUT_VIDEO[info.store_video],
        longest_table=_LONGEST_TABLE,
        front_matter=_yaml(_front_matter(info, languages)) + _declared_types(),
        index_files=json.dumps({split.replace("-", "_"): _index_files(split, info.splits) for split in info.splits}),
        layouts=[f"{name} ({len(LAYOUTS[name].names)} joints)" for name in info.counted("layout") if name],
        license_url=license_url(info.license),
        repeated=info.content_duplicates(),
        rows=info.stage_stats.tally.rows,
        joint_score=quality.get("mean_score", {}).get("median"),
        quantiles=_QUANTILES,
        # Below are the rows of the tables.
        splits=[
            (r["split"], *(f"{r[count]:,}" for count in ("clips", "videos", "people", "frames")), f"{r['hours']:.2f}")
            for r in info.by_split()
        ],
        labels=_counts({label: count for label, count in info.counted("label").items() if label is not None}),
        stages=[
            (line.stage, line.unit, f"{line.entered:,}", f"{line.left:,}", _reasons(line))
            for line in info.stage_stats.lines()
        ],
        weights=[
            (n, w.about, w.maker, w.license, " or ".join(w.sources), sha256)
            if w
            else (n, "", "not stated", "not stated", "a file of one's own", sha256)
            for n, sha256, w in weights
        ],
        engines=[
            (column.removesuffix("_model"), engine or "none", f"{count:,}")
            for column in MODELS
            for engine, count in info.counted(column).items()
        ],
        measures=[
            (name, MEASURES.get(name, ""), *(f"{found[quantile]:.4g}" for quantile in _QUANTILES))
            for name, found in quality.items()
        ],
        licenses=_counts(info.counted("license")),
        extra=[
            (
                name,
                member.engine,
                f"{member.dimension:,}" if member.dimension else "",
                f"{sum(member.parts.values()):,}",
            )
            for name, member in info.extra.items()
        ],
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    """Of the card. It takes a tenth of a second to compile."""
    # Here, so that commands on a finished dataset do without what only a build needs.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - Markdown: words from outside pass through the filter `plain`
        loader=PackageLoader("posecap.release", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(plain=_plain, number="{:,}".format)
    return environment.get_template("card.md.jinja")


def without_video(card: str) -> str:
    """The card of a dataset with the clips as mp4 as that of the same dataset without them."""
    for stored, none in zip(_ABOUT_VIDEO["clip"], _ABOUT_VIDEO["none"], strict=True):
        card = card.replace(stored, none, 1)
    return card


def _front_matter(info: DatasetInfo, languages: Sequence[str]) -> dict[str, Any]:
    """The YAML at the card's beginning, with the keys that the Hub knows."""

    def files(pattern: str) -> list[dict[str, str]]:
        """The Hub's split names are made of letters, digits and underscores."""
        return [{"split": split.replace("-", "_"), "path": pattern.format(split)} for split in info.splits]

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
        # datasets reads all configurations of a repository with the builder of the first, so that beside tars none can
        # be of Parquet: `index` takes what the tars have of it. Types are declared, since they would else be guessed
        # from the first clips.
        "configs": [
            {"config_name": "samples", "default": True, "data_files": files("data/{}/pose-*.tar")},
            {"config_name": "index", "data_files": files("data/{}/pose-*.tar")},
        ],
    }


@lru_cache(maxsize=1)
def _declared_types() -> str:
    """The end of the front matter, the same in every card: the types of columns, for the Hub's loader."""
    types = {"samples": _FEATURES, "index": _facts()}
    return _yaml({"dataset_info": [{"config_name": name, "features": found} for name, found in types.items()]})


def _yaml(values: Mapping[str, Any]) -> str:
    """A mapping as the lines of it that stand in a front matter."""
    lines: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return lines


def _index_files(split: str, splits: Sequence[str]) -> str:
    """The pattern of the names of a split's indexes. Those of ``train-2`` are not among those of ``train``, since the
    numbers of parts have five digits or more."""
    number = "[0-9]" * 5 + "*" if any(other.startswith(f"{split}-") for other in splits) else "*"
    return f"index/{split}-{number}.parquet"


def _facts() -> list[dict[str, Any]]:
    """The columns of the tars without arrays, with a type for each fact that every clip has, whatever the first clips
    have."""

    def typed(names: Sequence[str]) -> list[dict[str, Any]]:
        found = ((name, str(INDEX_SCHEMA.field(name).type)) for name in names)
        return [{"name": name, "dtype": _DTYPES.get(dtype, dtype)} for name, dtype in found]

    def words(*names: str) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": "string"} for name in names]

    counts = [{"name": name, "dtype": "int32"} for name in ("people", "frames", "joints")]
    spans = [{"name": name, "list": "float64"} for name in ("pts_span", "video_span")]
    nested = [
        {"name": "quality", "struct": typed(QUALITY)},
        {"name": "models", "struct": words(*(name.removesuffix("_model") for name in MODELS))},
        {"name": "captions", "list": words("text", "origin")},
    ]
    facts = {"name": "json", "struct": [*typed(_FACTS), *counts, *spans, *nested]}
    return [*words("__key__", "txt"), facts, *words("__url__")]


def _counts(counts: Mapping[str | None, int]) -> list[tuple[str, str]]:
    """Rows of a table: value and number of clips."""
    return [(value or "not stated", f"{count:,}") for value, count in counts.items()]


def _reasons(line: StageLine) -> str:
    """Why items ended in a stage, with their numbers."""
    return ", ".join(f"{reason} {count:,}" for status in LOST for reason, count in line.lost[status].items())


def _plain(text: str) -> str:
    """Text of manifests and videos on one line, escaped so that Markdown shows it as it is."""
    return re.sub(r"([\\|<>\[\]*_`&])", r"\\\1", " ".join(text.split()))
