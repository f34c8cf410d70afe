"""Metrics: what is counted, what labels may hold, where it goes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posecap import metrics as m
from posecap.build import BuildResult, Options
from posecap.build import build as build_dataset
from posecap.files import Written
from posecap.ledger import Ledger
from posecap.metrics import METRICS, OTHER, BuildMetrics, Changes, TextFile
from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, tally
from posecap.run.execute import ItemResult
from posecap.run.pool import WHOLE_PART, Finished, Load, NodeChange, NodeLost, Task, WorkerLost
from posecap.shards import PartFiles
from posecap.stage import Resources
from posecap.types import PartName
from tests import ROOT, small
from tests.small import KEPT, MISSING, SILENT

SEGMENTS = [("download", Resources(cpus=0)), ("decode", Resources(gpus=0.5, concurrency=2)), ("write", Resources())]
PART = PartName("train", 0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted(clock: Clock) -> BuildMetrics:
    return BuildMetrics(dataset="kinetics", segments=SEGMENTS, clock=clock)


def lost(reason: str, *, stage: str = "track", status: Any = "rejected") -> RowResult:
    outcome = RowOutcome(row_id="r", uri="s3://bucket/secret.mp4", status=status, stage=stage, reason=reason)
    return RowResult(outcome, node="a/1")


def finish(metrics: BuildMetrics, result: Any, *, segment: int = 1, row: int = 0, loads: tuple[Load, ...] = ()) -> None:
    metrics.finished(Finished(Task(PART, row, (0,), segment, None), "a/1", result), lambda: [4, 0, 1], lambda: loads)


def test_every_metric_follows_the_conventions() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert set(METRICS) == {one for one in vars(m).values() if isinstance(one, m.Metric)}
    for metric in METRICS:
        assert re.fullmatch(r"posecap_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
        assert metric.about.endswith(".")
        assert not {"uri", "row_id", "key", "detail"} & {*metric.labels}


def test_rows_are_counted_with_their_clips(counted: BuildMetrics) -> None:
    clips = (ClipOutcome(status="kept"), ClipOutcome(status="rejected", stage="track", reason="no_person_found"))
    kept = RowOutcome(row_id="r", uri="u", status="kept", clips=clips)
    counted.row(RowResult(kept, frames=90, bytes_read=5000, node="a/1"))
    counted.row(lost("not_found", stage="download"))
    counted.row(RowResult(kept))
    counted.part()
    assert counted.values(m.ROWS) == {("a/1", "kept"): 1, ("a/1", "rejected"): 1, ("", "kept"): 1}
    assert counted.by(m.CLIPS, "status") == {"kept": 2, "rejected": 2}
    assert counted.by(m.NOT_KEPT, "stage", "reason") == {"track/no_person_found": 2, "download/not_found": 1}
    assert counted.values(m.FRAMES) == {("a/1",): 90}
    assert counted.values(m.VIDEO_BYTES) == {("a/1",): 5000}
    assert counted.total(m.PARTS) == 1


def test_tasks_are_counted_whatever_becomes_of_their_rows(counted: BuildMetrics) -> None:
    spent = ItemResult(seconds={"decode": 2.0, "track": 4.0}, engine_seconds={("track", "movenet"): 3.0})
    finish(counted, spent)
    finish(counted, spent)
    finish(counted, WorkerLost("timeout", "took too long"))
    finish(counted, NodeLost())
    finish(counted, None)
    files = PartFiles({"a.tar": Written("0" * 64, 700), "a.mp4": Written("0" * 64, 50)}, {}, 3)
    finish(counted, ItemResult(outputs=[files], seconds={"write": 1.0}), segment=2, row=WHOLE_PART)
    assert counted.by(m.STAGE_SECONDS, "stage") == {"decode": 4.0, "track": 8.0, "write": 1.0}
    assert counted.values(m.ENGINE_SECONDS) == {("a/1", "track", "movenet"): 6.0}
    assert counted.values(m.GPU_SECONDS) == {("a/1",): 3.0}, "half a GPU for two items at once: a quarter for each"
    assert counted.by(m.WORKER_LOSSES, "reason") == {"timeout": 1}
    assert counted.values(m.WRITTEN_BYTES) == {("a/1",): 750}


def test_queues_and_workers_are_looked_at_once_a_second(counted: BuildMetrics, clock: Clock) -> None:
    busy = (Load("a/1", 1, workers=2, slots=4, items=6, busy=4), Load("b/2", 1, workers=1, slots=2, items=1, busy=1))
    finish(counted, ItemResult(), loads=busy)
    assert not counted.values(m.QUEUE)
    clock.now += 10
    finish(counted, ItemResult(), loads=busy)
    assert counted.values(m.QUEUE) == {("download",): 4, ("decode",): 0, ("write",): 1}
    assert counted.values(m.SLOTS) == {("a/1", "decode"): 4, ("b/2", "decode"): 2}
    assert counted.values(m.ITEMS) == {("a/1", "decode"): 6, ("b/2", "decode"): 1}
    assert counted.values(m.BUSY) == {("a/1", "decode"): 4, ("b/2", "decode"): 1}
    assert counted.values(m.GPU_RESERVED_SECONDS) == {("a/1",): 10.0, ("b/2",): 5.0}
    clock.now += 1
    finish(counted, ItemResult(), loads=busy[:1])
    assert counted.values(m.SLOTS)["b/2", "decode"] == 0, "its node is gone"
    counted.end()
    assert counted.total(m.QUEUE) == counted.total(m.ITEMS) == 0


def test_nodes_come_and_go(counted: BuildMetrics) -> None:
    counted.node(NodeChange("a/1", "used"))
    counted.node(NodeChange("b/2", "used"))
    counted.node(NodeChange("b/2", "drained", "sick"))
    assert counted.values(m.NODE_USED) == {("a/1",): 1, ("b/2",): 0}


def test_changes_are_handed_on_once(counted: BuildMetrics, clock: Clock) -> None:
    given: list[Changes] = []
    counted.export_to(given.append)
    for _ in range(3):
        finish(counted, ItemResult(seconds={"decode": 2.0}))
    counted.row(lost("too_short"))
    clock.now += 1
    finish(counted, ItemResult(seconds={"decode": 0.5}))
    counted.end()
    first, second = given
    assert first.added[m.STAGE_SECONDS] == {("a/1", "decode"): 6.5}
    assert first.added[m.ROWS] == {("a/1", "rejected"): 1}
    assert [value for _, _, value in first.observed] == [2.0, 2.0, 2.0, 0.5]
    assert first.set[m.QUEUE][("download",)] == 4
    assert not second.added
    assert not second.observed


def test_labels_hold_words_only_and_not_too_many(counted: BuildMetrics) -> None:
    counted.row(lost("https://user:password@host/a.mp4?token=secret"))
    counted.row(lost("Two words"))
    for number in range(1000):
        counted.row(lost(f"reason_{number}"))
    reasons = counted.by(m.NOT_KEPT, "reason")
    assert len(reasons) <= 257
    assert reasons[OTHER] >= 700
    assert sum(reasons.values()) == 1002
    assert not re.search("secret|password|bucket|Two words", counted.text())


def test_the_text_is_what_prometheus_reads(counted: BuildMetrics) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="the extra metrics is not installed")
    counted.row(lost("too_short"))
    for seconds in (0.002, 2.0, 5000.0):
        finish(counted, ItemResult(seconds={"decode": seconds}))
    counted.node(NodeChange('odd"\\name\n', "used"))
    families = {family.name: family for family in parser.text_string_to_metric_families(counted.text())}
    assert families.keys() == {metric.name.removesuffix("_total") for metric in METRICS}
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}
    (row,) = families["posecap_rows"].samples
    assert (row.name, row.labels, row.value) == (
        "posecap_rows_total",
        {"dataset": "kinetics", "node": "a/1", "status": "rejected"},
        1.0,
    )
    (node,) = families["posecap_node_used"].samples
    assert node.labels["node"] == 'odd"\\name\n'
    seconds = {(s.name, s.labels.get("le")): s.value for s in families["posecap_item_seconds"].samples}
    assert seconds["posecap_item_seconds_bucket", "0.001"] == 0
    assert seconds["posecap_item_seconds_bucket", "0.003"] == 1
    assert seconds["posecap_item_seconds_bucket", "1000.0"] == 2
    assert seconds["posecap_item_seconds_bucket", "+Inf"] == seconds["posecap_item_seconds_count", None] == 3
    assert seconds["posecap_item_seconds_sum", None] == 5002.002


def test_a_file_is_written_as_a_whole_and_now_and_then(counted: BuildMetrics, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "posecap.prom"
    counted.export_to(TextFile(path, counted, clock=clock))
    assert path.read_text().startswith("# HELP posecap_rows_total ")
    counted.row(lost("too_short"))
    for seconds, written in ((5, False), (5, True)):
        clock.now += seconds
        finish(counted, ItemResult())
        assert ("too_short" in path.read_text()) is written
    assert [found.name for found in tmp_path.iterdir()] == ["posecap.prom"]


def test_a_build_goes_on_without_its_file(counted: BuildMetrics, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        TextFile(folder / "posecap.prom", counted)
    folder.mkdir()
    file = TextFile(folder / "posecap.prom", counted, clock=clock)
    (folder / "posecap.prom").unlink()
    folder.rmdir()
    clock.now += 60
    file(Changes())
    file.end()


@pytest.fixture(scope="module")
def made(media: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildResult, list[dict[str, Any]], str]:
    """A build with JSON lines and a file of metrics: the result, the lines and the file's text."""
    folder = tmp_path_factory.mktemp("metrics")
    manifest = small.manifest(folder, [KEPT, MISSING, SILENT, {**KEPT, "id": "again"}], media_root=media)
    options = Options(runner="local", workers=1, progress="json", metrics_file=folder / "posecap.prom")
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        built = build_dataset(manifest, options=options, log=lambda line: None)
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    return built, lines, (folder / "posecap.prom").read_text()


def test_totals_of_a_build_are_those_of_its_ledger(
    made: tuple[BuildResult, list[dict[str, Any]], str], media: Path
) -> None:
    built, lines, text = made
    with Ledger(built.root / "ledger.sqlite") as ledger:
        counts = tally(ledger.outcomes()).as_json()
        seconds, frames = ledger.seconds()
    last = lines[-1]
    assert last["event"] == "end"
    assert last["rows"] == {**counts["rows"], "done": 4, "before": 0}
    assert last["clips"] == {status: counts["clips"][status] for status in ("kept", "rejected", "failed")}
    assert (last["reasons"], last["frames"], last["parts"]) == (counts["reasons"], frames, built.parts_built)
    # Parts are written by tasks that belong to no row.
    of_rows = {stage: took for stage, took in seconds.items() if stage != "write"}
    assert {stage: last["stage_seconds"][stage] for stage in of_rows} == pytest.approx(of_rows, abs=1e-3)
    assert last["bytes"]["video"] == (media / KEPT["video"]).stat().st_size
    files = [path for folder in ("data", "index", "results") for path in (built.root / folder).rglob("*")]
    assert last["bytes"]["written"] == sum(
        path.stat().st_size for path in files if path.is_file() and path.suffix != ".json"
    )
    node = last["nodes"]["this machine"]
    assert (node["rows"], node["clips"], node["frames"]) == (3, 1, frames)
    found = dict(re.findall(r'posecap_rows_total{.*status="(.*)"} (.*)', text.replace('node=""', "")))
    assert float(found["kept"]) == counts["rows"]["kept"]


def test_engines_are_counted_below_the_stages_that_call_them(
    made: tuple[BuildResult, list[dict[str, Any]], str],
) -> None:
    _, lines, _ = made
    last = lines[-1]
    by_stage: Counter[str] = Counter()
    for name, seconds in last["engine_seconds"].items():
        by_stage[name.split("/")[0]] += seconds
    assert {"download", "decode", "track", "embed"} <= by_stage.keys()
    assert all(seconds <= last["stage_seconds"][stage] + 0.01 for stage, seconds in by_stage.items())


DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "posecap.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
LABELS = {metric.name: {"dataset", *metric.labels} for metric in METRICS}


def named(expression: str) -> set[str]:
    return set(re.findall(r"posecap_\w+", expression))


def metric_of(name: str) -> str:
    """The metric that a series belongs to: of a histogram there are several."""
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in LABELS else name


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_dashboard_names_metrics_and_labels_that_there_are(expression: str) -> None:
    of = [metric_of(name) for name in named(expression)]
    assert of
    assert not set(of) - LABELS.keys()
    common = set.intersection(*(LABELS[name] for name in of))
    le = {"le"} if any(name.endswith("_bucket") for name in named(expression)) else set()
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    selected = {label for found in re.findall(r"{([^}]*)}", expression) for label in re.findall(r"(\w+)=~?\"", found)}
    assert grouped - le <= common
    assert selected - {"__name__"} <= common
    assert "dataset" in selected
    for name in named(expression):
        kind = next(metric.kind for metric in METRICS if metric.name == metric_of(name))
        is_rate = f'__name__=~"(ray_)?{name}"' in "".join(re.findall(r"(?:rate|increase)\(({[^}]*})", expression))
        assert is_rate == (kind != "gauge"), "counters are shown by their rates, gauges are not"


def test_the_dashboard_can_be_imported_and_shows_every_metric() -> None:
    panels, variables = DASHBOARD["panels"], {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = [panel["datasource"] for panel in panels] + [
        t["datasource"] for panel in panels for t in panel["targets"]
    ]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert named(variables["dataset"]["query"]["query"]) <= LABELS.keys()
    shown = {metric_of(name) for expression in EXPRESSIONS for name in named(expression)}
    assert shown == LABELS.keys()
    for panel in panels:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(re.findall(r"\w+", " ".join(grouped)))
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_the_documentation_lists_every_metric() -> None:
    page = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about} |" in page


def test_prometheus_reads_the_file_and_knows_the_dashboards_queries(
    made: tuple[BuildResult, list[dict[str, Any]], str], tmp_path: Path
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on the path (Debian's package prometheus)")
    *_, text = made
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    queries = [one.replace("$dataset", ".*").replace("$__rate_interval", "1m") for one in EXPRESSIONS]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.json"  # which YAML reads as well
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


def test_grafanas_own_model_of_a_dashboard_has_all_of_ours() -> None:
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="pip install grafana-foundation-sdk")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    plugins.register_default_plugins()
    read = json.loads(json.dumps(sdk.Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    # What an exported dashboard has in addition, for whoever imports it.
    ours = {key: value for key, value in DASHBOARD.items() if key not in ("__inputs", "__requires")}
    assert list(missing(ours, read)) == []


def missing(ours: Any, read: Any, path: str = "") -> Iterator[str]:
    """Where what was read lacks something of ours, or has another value; it may have defaults in addition."""
    if isinstance(ours, dict) and isinstance(read, dict):
        for key, value in ours.items():
            yield from missing(value, read.get(key), f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        for number, (one, other) in enumerate(zip(ours, read, strict=True)):
            yield from missing(one, other, f"{path}/{number}")
    elif ours != read:
        yield path
