"""Reads and checks manifests: the YAML file that says what a dataset is made of.

Unknown and repeated keys and YAML anchors are rejected. Every message names file, line, key, value and remedy: the text
is composed into YAML nodes, which have lines, and not converted to Python values, so that a value also keeps its
written form (``version: 1.10`` is not ``1.1``).
The keys::

    name: my-dataset               # letters, digits, . _ -
    version: 1.0.0
    license: CC-BY-4.0             # of the dataset; rows may name their own
    contact: me@example.org        # e-mail address or web address
    description: …                 # optional
    pipeline: default              # a name of `posecap pipeline list`, or a Python file, relative to the manifest
    output: ../datasets/mine       # relative to the manifest; a local directory
    media_root: .                  # relative video paths start here; a directory or a URL
    tables:
      - path: rows.csv             # CSV, JSONL or Parquet; local, or a URL that fsspec opens
        columns: {video: uri}      # field of a row -> column of the table; null leaves the field unread
        video_prefix: https://…/   # put before every cell of video, for tables that hold ids only
        defaults: {split: train}   # for empty cells of split, license, source, label
    rows_per_part: 1000            # most rows whose clips go into one shard
    bytes_per_part: 2000000000     # most bytes of one shard's clips, as estimated from the rows; see Manifest
    store_video: none              # none, or clip to store the decoded frames as mp4; outranks the pipeline's
    keep_intermediates: perception # what a later build goes on from without the videos; all: captioners' sentences too
    filter: jitter < 0.02          # optional; clips for which it does not hold are rejected: posecap/shards/where.py
    split: given                   # given by tables, or auto (posecap.manifest.auto_split) with the four keys below
    split_ratios: 0.8/0.1/0.1      # of train, val and test; two numbers are train and test; or train 0.8/dev 0.2
    split_seed: 0                  # a whole number; another divides otherwise
    group_by: person, camera       # columns of the tables; rows with one value of any of them stay in one split
    stratify_by: none              # or label: each label's share of every split as near to the ratios as groups allow
    near_duplicates: keep_all      # or one_split, for given splits: see posecap.manifest.auto_split
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

import yaml

from posecap import legacy
from posecap.builtin import pipeline_path
from posecap.shards.where import WhereError
from posecap.stages.filter_clips import FilterClips
from posecap.terminal import nearest
from posecap.types import KeepIntermediates
from posecap.uris import public_text, public_uri

ROW_FIELDS = ("id", "video", "start", "end", "label", "caption", "captions", "split", "license", "source")
"""What a table may say of a row: its columns, where ``columns`` gives them no other names."""
DEFAULT_FIELDS = ("split", "license", "source", "label")
"""Those that may have a default for empty cells."""
TABLE_FORMATS = (".csv", ".jsonl", ".parquet")
MOST_ROWS_PER_PART = 100_000
"""Our bound: a part is made again as a whole when a row of it changes."""
BYTES_PER_PART_RANGE = (1_000_000, 999_999_999_999)
"""Our range, up to the most digits that a number in a manifest may have."""
URL_SCHEMES = ("https", "http", "s3", "gs", "az", "abfs", "hf")
"""Of tables and of the media root: those that a fetcher of posecap takes, or fsspec opens."""
MOST_BYTES = 1 << 20
"""Of a manifest. Our bound against files that are no manifest: a long one has some kB."""
LINE = r"[^\x00-\x1f\x7f-\x9f]{1,1000}"
"""One line without control characters."""

SPLIT_NAME = r"[A-Za-z0-9_-]{1,64}"
"""As :class:`posecap.types.PartName` takes it."""
# Whole values of keys: name, version, description, filter and contact. All lengths are our bounds, against cells
# that would fill messages, folders and the dataset card: names of folders have 255 bytes at most.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"
_PROSE = r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]{1,10000}"
_CONDITION = r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]{1,65536}"
_CONTACT = r"[^@\s]+@[^@\s]+\.[^@\s]+|https?://\S+"

StoreVideo = Literal["none", "clip"]
"""``clip`` stores the frames of each clip as an mp4."""


class ManifestError(ValueError):
    """A manifest or one of its tables is invalid; the message names file, line or row, problem and remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of rows, as the manifest describes it.

    Args:
        location: an absolute path, or a URL.
        written: the path as the manifest has it, for messages; of a URL the public one (:mod:`posecap.uris`).
        columns: the table's column by field of a row (:data:`ROW_FIELDS`), for columns that have another name than
            their field; None leaves the field unread.
        video_prefix: put before every cell of ``video``, before ``media_root`` is; empty for none.
        defaults: values for empty cells, by field (:data:`DEFAULT_FIELDS`).
    """

    location: str
    written: str
    columns: Mapping[str, str | None] = field(default_factory=dict)
    video_prefix: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """The table's format, one of :data:`TABLE_FORMATS`."""
        return suffix_of(self.location)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoSplit:
    """How rows are divided among splits (:mod:`posecap.manifest.auto_split`).

    Args:
        ratios: names of splits, each with its share; the shares sum to 1.
        seed: another one divides otherwise.
        group_by: columns of the tables.
        stratify_by: ``label`` divides the rows of each label by the ratios, and leaves rows of an earlier plan in
            their splits.
    """

    ratios: tuple[tuple[str, float], ...]
    seed: int = 0
    group_by: tuple[str, ...] = ()
    stratify_by: Literal["none", "label"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a manifest; the module's docstring explains its keys.

    ``path`` is the manifest's own as it was given. All other paths are absolute: those in the manifest are relative to
    its folder. ``media_root`` is a directory, or a URL without a slash at its end. ``license`` is the dataset's; it is
    not used for rows that state none. ``description`` is empty where there is none.

    A part ends before the row with which it would exceed ``rows_per_part`` rows or ``bytes_per_part`` bytes, estimated
    for one clip of each row's span (:mod:`posecap.plan`): with stored video of 1.2 Mbit/s, 2 GB are 1,160
    clips of 10 seconds. Where ``bytes_per_part`` is None, a dataset that has a plan already keeps the limit of that
    plan, which is none for those that were planned before there was one, and others get
    :data:`posecap.plan.BYTES_PER_PART`.

    ``auto_split`` is None where the tables give the splits. ``filter`` is a condition for
    :class:`posecap.stages.filter_clips.FilterClips`, checked when a build reads it; empty where there is none.
    """

    path: Path
    name: str
    version: str
    license: str
    contact: str
    description: str
    pipeline: Path
    output: Path
    media_root: str
    tables: tuple[Table, ...]
    rows_per_part: int = 1000
    bytes_per_part: int | None = None
    store_video: StoreVideo = "none"
    keep_intermediates: KeepIntermediates = "perception"
    filter: str = ""
    auto_split: AutoSplit | None = None
    near_duplicates: Literal["keep_all", "one_split"] = "keep_all"


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Its tables are not opened: :func:`posecap.manifest.tables.read_tables` does that.

    Raises:
        ManifestError: the file is missing, is not a YAML mapping, or has a key or value that is not allowed.
    """
    folder = path.absolute().parent
    keys = open_keys(path)
    manifest = Manifest(
        path=path,
        name=keys.text("name", _NAME, "letters, digits, '.', '_' and '-', such as kinetics-poses"),
        version=keys.text("version", _VERSION, "a version such as 1.0.0"),
        license=keys.text("license", LINE, "one line such as CC-BY-4.0"),
        contact=keys.text("contact", _CONTACT, "an e-mail or web address that people in the videos can reach"),
        description=keys.text("description", _PROSE, "plain text of at most 10,000 characters", default=""),
        pipeline=keys.pipeline("pipeline", folder),
        output=keys.local("output", folder, "a local directory; the address of an object store goes to --output"),
        media_root=_media_root(keys, folder),
        tables=tuple(_table(entry, folder) for entry in keys.entries("tables")),
        rows_per_part=keys.whole("rows_per_part", 1, MOST_ROWS_PER_PART, default=1000),
        bytes_per_part=keys.whole("bytes_per_part", *BYTES_PER_PART_RANGE, default=0) or None,
        store_video=cast(StoreVideo, keys.word("store_video", ("none", "clip"), default="none")),
        keep_intermediates=cast(
            KeepIntermediates,
            keys.word("keep_intermediates", get_args(KeepIntermediates), default="perception"),
        ),
        filter=_filter(keys),
        auto_split=_auto_split(keys),
        near_duplicates=cast(
            Literal["keep_all", "one_split"],
            keys.word("near_duplicates", ("keep_all", "one_split"), default="keep_all"),
        ),
    )
    keys.done()
    return manifest


def _auto_split(keys: Keys) -> AutoSplit | None:
    """Of ``split: auto``; None where tables give the splits."""
    is_auto = keys.word("split", ("given", "auto"), default="given") == "auto"
    written = keys.text("split_ratios", LINE, _RATIOS, default="")
    seed = keys.whole("split_seed", 0, 999_999_999_999, default=0)
    columns = keys.text("group_by", LINE, "columns of the tables with commas between them", default="")
    stratify_by = cast(Literal["none", "label"], keys.word("stratify_by", ("none", "label"), default="none"))
    given = {"split_ratios": written, "split_seed": seed, "group_by": columns, "stratify_by": stratify_by != "none"}
    for key, value in given.items():
        if value and not is_auto:
            raise keys.wrong(key, "'split: auto' as well: without it the tables give the splits")
    if not is_auto:
        return None
    try:
        ratios = split_ratios(written or "0.8/0.1/0.1")
    except ValueError:
        raise keys.wrong("split_ratios", _RATIOS) from None
    named = tuple(dict.fromkeys(name.strip() for name in columns.split(",") if name.strip()))
    return AutoSplit(ratios=ratios, seed=seed, group_by=named, stratify_by=stratify_by)


# What ``split_ratios`` may be, for messages.
_RATIOS = (
    "shares of train, val and test as 0.8/0.1/0.1, of train and test as 0.8/0.2, or with names as train 0.8/dev 0.2"
)


def split_ratios(text: str) -> tuple[tuple[str, float], ...]:
    """Splits and their shares, which sum to 1, from ``0.8/0.1/0.1``, ``80/20`` or ``train 0.8/dev 0.2``.

    Raises:
        ValueError: a name or number is none, two have one name, or a share is not above 0.
    """
    parts = [part.split() for part in text.split("/")]
    usual = {2: ("train", "test"), 3: ("train", "val", "test")}.get(len(parts), ())
    names = [part[0] for part in parts if len(part) == 2] or list(usual)
    shares = [float(part[-1]) for part in parts if part]
    if len(names) != len(parts) or len(shares) != len(parts) or len(set(names)) != len(names):
        raise ValueError(f"split ratios are {text!r}; write {_RATIOS}")
    if not all(0 < share < math.inf for share in shares) or not all(re.fullmatch(SPLIT_NAME, name) for name in names):
        raise ValueError(f"split ratios are {text!r}; write {_RATIOS}")
    return tuple((name, share / sum(shares)) for name, share in zip(names, shares, strict=True))


def _filter(keys: Keys) -> str:
    text = keys.text("filter", _CONDITION, "a condition, as 'jitter < 0.02 and people == 1'", default="")
    try:
        return FilterClips(where=text).where if text else ""
    except WhereError as error:
        raise keys.wrong("filter", f"one that can be read: {error}") from None


def _media_root(keys: Keys, folder: Path) -> str:
    """The absolute path or URL of ``media_root``, the manifest's folder where it is not given."""
    location = keys.location("media_root", folder, default=".")
    if is_url(location) and ("?" in location or "#" in location):
        raise keys.wrong("media_root", "a URL without '?' and '#': paths are put behind it, and those come after them")
    return location


def _table(keys: Keys, folder: Path) -> Table:
    """One entry of ``tables``."""
    location = keys.location("path", folder)
    written = public_uri(keys.text("path", LINE, ""))
    columns = keys.pairs("columns", ROW_FIELDS, "the name of the table's column, as 'video: uri'")
    video_prefix = keys.text("video_prefix", LINE, "what comes before every video, as https://host/", default="")
    defaults = keys.pairs("defaults", DEFAULT_FIELDS, "a value for empty cells, as 'split: train'")
    keys.done()
    if suffix_of(location) not in TABLE_FORMATS:
        raise keys.wrong("path", f"a table that ends in {', '.join(TABLE_FORMATS)}")
    if defaults.get("split") and not re.fullmatch(SPLIT_NAME, defaults["split"] or ""):
        raise keys.wrong("defaults", "a split of letters, digits, '_' and '-'")
    return Table(
        location=location,
        written=written,
        columns=columns,
        video_prefix=video_prefix,
        defaults={name: value for name, value in defaults.items() if value},
    )


def is_url(location: str) -> bool:
    """Whether a location is a URL rather than a path (``C:\\…`` is a path)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", location) is not None


def suffix_of(location: str) -> str:
    """Lower-case suffix of a path or of a URL's path, query left out."""
    return PurePosixPath(urlsplit(location).path if is_url(location) else location).suffix.lower()


def shown(value: object) -> str:
    """A value as messages quote it: escaped, and cut when longer than 120 characters, about a
    line of a terminal."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:110]}… ({len(text):,} characters)"


class Keys:
    """One YAML mapping of a manifest. Each method reads a key; :meth:`done` rejects keys that were not read.

    ``wanted`` completes the message "write …" about a value that is missing or wrong. A key without a ``default`` is
    required. Every method raises ManifestError for a value that it does not take.
    """

    def __init__(self, file: Path, where: str, node: yaml.Node) -> None:
        self._file, self._where, self._node = file, where, node
        self._known: list[str] = []
        self._nodes: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where.rstrip('.') or 'the manifest'} must be a mapping of keys to values")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, f"a key under {where.rstrip('.') or 'the manifest'} must be a single word")
            name = legacy.KEYS.get(key.value, key.value)
            if name in self._nodes:
                raise self._error(key, f"key '{where}{name}' appears a second time; keep one of the two")
            if name != key.value:
                legacy.hint(legacy.Hint(key.start_mark.line + 1, key.value, name), file)
            self._nodes[name] = value

    def text(self, key: str, pattern: str, wanted: str, *, default: str | None = None) -> str:
        """A scalar in its written form (``1.10`` stays ``1.10``), stripped, that matches ``pattern`` as a whole."""
        node = self._node_of(key, wanted, "required" if default is None else "optional")
        if node is None:
            return default or ""
        value: str | None = node.value.strip() if isinstance(node, yaml.ScalarNode) else None
        if value is None or not re.fullmatch(pattern, value):
            raise self.wrong(key, wanted)
        return value

    def word(self, key: str, words: tuple[str, ...], *, default: str) -> str:
        """A scalar that is one of ``words``."""
        return self.text(key, "|".join(words), f"one of {', '.join(words)}", default=default)

    def whole(self, key: str, least: int, most: int, *, default: int) -> int:
        """A whole number from ``least`` to ``most``, both included; ``default``, whatever it is, for a missing key."""
        wanted = f"a whole number from {least:,} to {most:,}"
        written = self.text(key, r"\d{1,12}", wanted, default="")
        if written and not least <= int(written) <= most:
            raise self.wrong(key, wanted)
        return int(written) if written else default

    def location(self, key: str, folder: Path, *, default: str | None = None) -> str:
        """An absolute path, resolved against ``folder``, or a URL of a known scheme without a slash at its end."""
        written = self.text(key, LINE, "a path or a URL", default=default)
        if not is_url(written):
            return (folder / written).resolve().as_posix()
        try:
            scheme = urlsplit(written).scheme.lower()
        except ValueError:  # of a host with brackets that is no IPv6 address
            raise self.wrong(key, "a path, or a URL whose host is a name or an address") from None
        if scheme not in URL_SCHEMES:
            raise self.wrong(key, f"a path, or a URL with one of {', '.join(URL_SCHEMES)}")
        return written.rstrip("/")

    def local(self, key: str, folder: Path, wanted: str) -> Path:
        """A path, resolved against ``folder``; no URL."""
        written = self.text(key, LINE, wanted)
        if is_url(written):
            raise self.wrong(key, wanted)
        return (folder / written).resolve()

    def pipeline(self, key: str, folder: Path) -> Path:
        """The file of a pipeline, named as one of posecap's or by its path."""
        wanted = "'default', or a Python file on this machine; it is code and is never fetched"
        self.local(key, folder, wanted)
        return pipeline_path(self.text(key, LINE, wanted), folder)

    def entries(self, key: str) -> list[Keys]:
        """A non-empty list of mappings."""
        wanted = "a list with at least one table: '- path: rows.csv'"
        node = self._node_of(key, wanted, "required")
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.wrong(key, wanted)
        return [Keys(self._file, f"{self._where}{key}[{i}].", each) for i, each in enumerate(node.value)]

    def pairs(self, key: str, known: tuple[str, ...], wanted: str) -> dict[str, str | None]:
        """An optional mapping from known words to lines of text; an empty value gives None."""
        node = self._node_of(key, wanted, "optional")
        if node is None:
            return {}
        inner = Keys(self._file, f"{self._where}{key}.", node)
        found = {name: inner.text(name, LINE, wanted, default="") or None for name in known if name in inner._nodes}
        inner._known = list(known)
        inner.done()
        return found

    def done(self) -> None:
        """Reject keys that no other method has read; call it last."""
        for key, node in self._nodes.items():
            if key not in self._known:
                raise self._error(node, f"unknown key '{self._where}{key}': {nearest(key, self._known)}")

    def _node_of(self, key: str, wanted: str, need: Literal["required", "optional"]) -> yaml.Node | None:
        """The value of a key, which counts as read; None for an optional one that is missing or empty (YAML's null)."""
        self._known.append(key)
        node = self._nodes.get(key)
        if node is not None and node.tag != "tag:yaml.org,2002:null":
            return node
        if need == "optional":
            return None
        misspelt = get_close_matches(key, [k for k in self._nodes if k not in self._known], n=1)
        hint = f"; is '{misspelt[0]}' meant?" if misspelt else ""
        raise self._error(node or self._node, f"key '{self._where}{key}' is missing{hint}; write {wanted}")

    def wrong(self, key: str, wanted: str) -> ManifestError:
        """The error to raise for a value that is not what was wanted."""
        node = self._nodes[key]
        value = shown(public_text(node.value)) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
        return self._error(node, f"key '{self._where}{key}' is {value}; write {wanted}")

    def _error(self, node: yaml.Node, message: str) -> ManifestError:
        return ManifestError(f"{self._file}:{node.start_mark.line + 1}: {message}")


def open_keys(path: Path) -> Keys:
    """The top level of a YAML file.

    Raises:
        ManifestError: it cannot be read, is larger than :data:`MOST_BYTES`, or is not a YAML mapping.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); name a manifest with --manifest") from error
    if len(text) > MOST_BYTES:
        raise ManifestError(f"{path}: larger than {MOST_BYTES:,} bytes; put rows into tables, not into the manifest")
    try:
        node = _Composer(text.decode()).get_single_node()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise ManifestError(_invalid(path, error)) from error
    except RecursionError as error:
        raise ManifestError(f"{path}: is nested too deeply; a manifest needs four levels") from error
    if node is None:
        raise ManifestError(f"{path}: is empty; start from 'posecap manifest folder DIR'")
    return Keys(path, "", node)


def _invalid(path: Path, error: yaml.YAMLError) -> str:
    """A message about a file that is not YAML, with the line of the problem where the parser tells it."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        words = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        return f"{path}: is not valid YAML: {words}"
    problem = "; ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in problem:
        problem = "a tab; indent with spaces instead"
    return f"{path}:{mark.line + 1}: is not valid YAML: {problem}"


class _Composer(yaml.SafeLoader):
    """PyYAML's safe loader up to nodes, which have line numbers and all keys; anchors are rejected."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:  # as PyYAML calls it
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(None, None, "anchors and aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)
