"""``card.md``: the dataset card in the Hugging Face Hub's format, generated from the build's results.

Its text is in ``card.md.jinja``. It contains no times: the same dataset has the same card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from posecap import __version__
from posecap.joints import LAYOUTS
from posecap.outcomes import LOST, StageLine
from posecap.release.dataset_info import MODELS, DatasetInfo, hub_identifier, license_url
from posecap.skeletons import MEASURES
from posecap.weights.registry import REGISTRY

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
_LONGEST_TABLE = 40
"""Rows of a table. Our choice, a page or so; the card says how many more there are."""
_QUANTILES = ("p05", "p25", "median", "p75", "p95")
"""Of :data:`posecap.release.dataset_info.QUANTILES`, those in the table of quality."""


def make_card(info: DatasetInfo, *, languages: Sequence[str] = ("en",)) -> str:
    """The card as Markdown with YAML front matter.

    Args:
        languages: of the captions, as ISO 639-1 codes; nothing checks them.
    """
    # Here, so that commands on a finished dataset do without what only a build needs.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    template = Environment(  # noqa: S701 - Markdown: words from outside pass through the filter `plain`
        loader=PackageLoader("posecap.release", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template.filters.update(plain=_plain, number="{:,}".format)
    quality = {name: found for name, found in info.quality().items() if found is not None}
    known = {n: sha256 for member in info.extra.values() for n, sha256 in member.weights.items()}
    known |= info.lineage.get("weights", {})
    weights = [(n, sha256, REGISTRY.get(n)) for n, sha256 in sorted(known.items())]
    return template.get_template("card.md.jinja").render(
        info=info,
        posecap_version=__version__,
        longest_table=_LONGEST_TABLE,
        front_matter=yaml.safe_dump(_front_matter(info, languages), sort_keys=False, allow_unicode=True, width=100),
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
        # One builder serves all configurations, the one of the first; index files, in another format, are loaded by
        # their folder. Types are declared, since they would else be guessed from the first clips.
        "configs": [{"config_name": "samples", "default": True, "data_files": files("data/{}/pose-*.tar")}],
        "dataset_info": [{"config_name": "samples", "features": _FEATURES}],
    }


def _counts(counts: Mapping[str | None, int]) -> list[tuple[str, str]]:
    """Rows of a table: value and number of clips."""
    return [(value or "not stated", f"{count:,}") for value, count in counts.items()]


def _reasons(line: StageLine) -> str:
    """Why items ended in a stage, with their numbers."""
    return ", ".join(f"{reason} {count:,}" for status in LOST for reason, count in line.lost[status].items())


def _plain(text: str) -> str:
    """Text of manifests and videos on one line, escaped so that Markdown shows it as it is."""
    return re.sub(r"([\\|<>\[\]*_`&])", r"\\\1", " ".join(text.split()))
