"""What a schedule asks of started workers: single tasks, on one node or several; and what it knows of the nodes.

A row that fails on one node says little: the disk of the node may be full, a mount missing, a graphics card broken.
The schedule asks another node, and :class:`Health` counts the answers. A node whose failures other nodes overrule far
more often than theirs are overruled is *sick*. While a few rows that failed on a node wait for their second answer, the
node is *held*: it gets no rows that were not tried yet, so one that fails fast does not run through the plan meanwhile.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from posecap.run.execute import ItemResult
from posecap.types import PartName, StagedSample

WHOLE_PART = -1
"""In place of a row's position: the task that writes the part."""
RENEWED_PART = -2
"""The same of a part with rows that get new texts as it is written, in the pipeline's last segment."""


@dataclass(frozen=True)
class Task:
    """One item for one worker.

    Args:
        row: position of its row in the part; :data:`WHOLE_PART` or :data:`RENEWED_PART` for what writes the part.
        order: sorts the items of one row: 0, then the number of the item among the outputs of each earlier segment.
        segment: number of the pipeline's segment that is to run, from 0.
        attempt: how often the row has started over before.
        node: the only node that can run the task, whose disk has the item's file; None if every node can.
        avoid: nodes that should not run it; not asked where ``node`` is given.
    """

    part: PartName
    row: int
    order: tuple[int, ...]
    segment: int
    item: Any
    attempt: int = 0
    node: str | None = None
    avoid: frozenset[str] = frozenset()

    @property
    def writes(self) -> bool:
        """Whether it writes the part, and is none of a row."""
        return self.row in (WHOLE_PART, RENEWED_PART)

    def may_run_on(self, node: str) -> bool:
        """Whether the task is for a node of this name, or for any and this is none to avoid."""
        return node == self.node if self.node is not None else node not in self.avoid


@dataclass(frozen=True)
class WorkerLost:
    """The worker died or was stopped while it ran the task; ``reason`` is a snake_case word."""

    reason: str
    detail: str


@dataclass(frozen=True)
class NodeLost:
    """The task's node is gone; the task is not the cause, and what it was made from may be gone too."""


@dataclass(frozen=True)
class Finished:
    """A task that a worker of ``node`` is done with. The result None: it was not run and must be submitted again."""

    task: Task
    node: str
    result: ItemResult | WorkerLost | NodeLost | None


@dataclass(frozen=True)
class Load:
    """The workers of a segment on one node: how many there are, how many threads they have, each of which processes
    items one by one (``slots``), how many of these are at work (``busy``), and the items that were given to them."""

    node: str
    segment: int
    workers: int
    slots: int
    items: int
    busy: int


CALL_SECONDS = 0.05
"""Longest time that several tasks that a worker is given at once should take, by what the last ones took. Our choice:
much more than the millisecond that a call of a Ray actor costs, and little enough that no worker waits for
another at the end of a part."""
_TASKS_PER_CALL = 64
"""At most. Our choice: a call's own cost is then small beside what each row costs the driver anyway."""
_DECAY = 0.9
"""By which the slowest task counts less with each call: of one of 10 s the worker gets single tasks for 50 more."""


class CallSize:
    """How many tasks a worker is given at once (``tasks``): one, and several where the last ones took next to no time
    and gave nothing but staged samples."""

    def __init__(self) -> None:
        self.tasks = 1
        self._slowest = math.inf  # seconds of the slowest of the last tasks, which count less with each call

    def measure(self, first: Task, results: Sequence[ItemResult]) -> None:
        """Learn from the results of a call, of which ``first`` is the first task."""
        heavy = any(not isinstance(output, StagedSample) for result in results for output in result.outputs)
        if heavy or not all(result.seconds for result in results) or first.writes:
            self._slowest = math.inf  # what is not staged waits in memory or on disk for the next segment
        else:
            slowest = max(sum(result.seconds.values()) for result in results)
            self._slowest = slowest if self._slowest == math.inf else max(slowest, _DECAY * self._slowest)
        # A task may measure 0 s.
        self.tasks = max(1, min(_TASKS_PER_CALL, int(CALL_SECONDS / max(self._slowest, 1e-6))))


class Pool(Protocol):
    """Started workers for every segment of a pipeline, on one node or several.

    ``segments`` is the number of segments, ``start_seconds`` how long the workers took to start.
    """

    segments: int
    start_seconds: float

    def nodes(self, segment: int) -> frozenset[str]:
        """Names of the nodes with workers of a segment, without those that are drained or gone."""
        ...

    def free_slots(self, segment: int, node: str | None = None) -> int:
        """How many more items the segment's workers accept now, with a short queue, on one node or (None) on all."""
        ...

    def takes(self, task: Task) -> bool:
        """Whether a worker that may run the task has a slot free."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task that the pool takes to a worker of its segment; never blocks."""
        ...

    def wait(self) -> Finished | NodeChange | None:
        """Block until a submitted task is done, nodes come or go, or other slots are free (None)."""
        ...

    def drain(self, node: str) -> bool:
        """Give a node no more tasks; False where the others could not do without it, and nothing changes."""
        ...

    def load(self) -> Iterable[Load]:
        """The load of every node's workers now."""
        ...

    def close(self) -> None:
        """End the workers, whether tasks are left or not."""
        ...


NodeState = Literal["used", "drained", "lost", "left_out"]
"""See :class:`NodeChange`."""

UNDECIDED_AT_MOST = 8
"""Rows that may wait for a second answer before their node is held. This and the numbers below are our choice, as small
as they can be without a node being judged by chance: each row that fails on a sick node is done twice."""
_REMEMBERED = 20
"""Latest rows of a node by which it is judged: of so many, a node that became sick or well is known after some."""
_OVERRULED_AT_LEAST = 4
_OVERRULED_SHARE = 0.5
_TIMES_THE_OTHERS = 2.0
"""A node is sick that was overruled on so many of these rows, on such a share of them, and so much more often than the
others. The share may be that of its last ``_OVERRULED_AT_LEAST`` rows if it is all of them: a node whose workers die
again and again rests between its rows, and would take minutes to have a share of more."""
_IN_DOUBT_AT_MOST = 1
"""A node of which more of the latest rows ended in doubt, each that ended well taken off, may have become sick."""


@dataclass(frozen=True)
class NodeChange:
    """A node that is used from now on, or no longer.

    ``state`` is ``used`` for a node that was there at the start or has joined, ``drained`` for one that gets no more
    rows because it is sick or the cluster is about to take it away, ``lost`` for one that is gone, and ``left_out`` for
    one whose workers cannot start. ``why`` is a sentence for people, without the node's name; empty for a used one.
    """

    node: str
    state: NodeState
    why: str = ""

    def sentence(self) -> str:
        """The change, for people."""
        what = {
            "used": "has joined",
            "drained": "gets no more rows",
            "lost": "is gone, its rows start over on others",
            "left_out": "is left out",
        }[self.state]
        return f"node {self.node} {what}" + (f": {self.why}" if self.why else "")


@dataclass
class NodeRecord:
    """One node in one run of a build; ``state`` and ``why`` are those of its last :class:`NodeChange`.

    Args:
        ended: (outcome, reason) → rows that ended so here, also those that were tried elsewhere afterwards. The outcome
            is a status of rows, or ``lost`` where a worker died or was stopped.
        overruled: reason → rows, of those that ended with it here, that another node ended otherwise.
        returned: rows that started over elsewhere because the node was no longer there for them.
    """

    state: NodeState = "used"
    why: str = ""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    overruled: Counter[str] = field(default_factory=Counter)
    returned: int = 0

    def as_json(self, node: str) -> dict[str, Any]:
        """``{"node", "state", "why", "ended": {outcome: {reason: rows}}, "overruled": {reason: rows}, "returned"}``."""
        ended: dict[str, dict[str, int]] = defaultdict(dict)
        for (outcome, reason), rows in sorted(self.ended.items()):
            ended[outcome][reason] = rows
        return {
            "node": node,
            "state": self.state,
            "why": self.why,
            "ended": dict(ended),
            "overruled": dict(sorted(self.overruled.items())),
            "returned": self.returned,
        }


class Health:
    """The records of all nodes, by name, and which of them are held, unreliable, mostly in doubt or sick."""

    def __init__(self) -> None:
        self.records: defaultdict[str, NodeRecord] = defaultdict(NodeRecord)
        # By node: rows that wait for a second answer; rows in doubt, less those that ended well or were confirmed, at
        # least 0 and at most _REMEMBERED; of the latest rows that are decided, whether they were overruled. A row that
        # ends well does not clear a node: it may have begun before the node became sick. Nor does one that is
        # confirmed: two sick nodes that confirm each other once would be believed from then on.
        self._undecided: Counter[str] = Counter()
        self._in_doubt: Counter[str] = Counter()
        self._latest: defaultdict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def change(self, changed: NodeChange) -> None:
        """Enter the state of a node. A sick one that is lost in the end stays ``drained``: that says more."""
        record = self.records[changed.node]
        if not (record.state == "drained" and changed.state == "lost"):
            record.state, record.why = changed.state, changed.why

    def ended(self, node: str, outcome: str, reason: str, *, decided: Literal["yes", "not yet"]) -> None:
        """Count a row that ended on a node; where it is not decided yet, :meth:`decide` follows."""
        self.records[node].ended[outcome, reason] += 1
        if decided == "yes":
            self._latest[node].append(False)
            self._count_doubt(node, -1)
        else:
            self._undecided[node] += 1
            self._count_doubt(node, 1)

    def decide(self, reasons: Mapping[str, str], verdict: Literal["confirmed", "overruled"]) -> None:
        """Count the end of a row that waited for another answer.

        Args:
            reasons: node → the reason for which the row ended there, of every node that was not believed at once.
        """
        for node, reason in reasons.items():
            self._undecided[node] -= 1
            self._latest[node].append(verdict == "overruled")
            if verdict == "overruled":
                self.records[node].overruled[reason] += 1
            else:
                self._count_doubt(node, -1)

    def _count_doubt(self, node: str, change: int) -> None:
        """One row in doubt more or less, within its bounds."""
        self._in_doubt[node] = min(_REMEMBERED, max(0, self._in_doubt[node] + change))

    def returned(self, node: str) -> None:
        """Count a row that started over because the node was gone."""
        self.records[node].returned += 1

    def held(self) -> frozenset[str]:
        """Nodes that should get no row that was not tried elsewhere."""
        return frozenset(node for node, rows in self._undecided.items() if rows >= UNDECIDED_AT_MOST)

    def unreliable(self) -> frozenset[str]:
        """Nodes whose latest rows ended in doubt rather than well: that a row fails there says nothing of it.

        Several nodes may lose the same mount at once; what they agree on is then no proof.
        """
        return frozenset(node for node, rows in self._in_doubt.items() if rows > _IN_DOUBT_AT_MOST)

    def mostly_in_doubt(self) -> frozenset[str]:
        """Nodes on which more of the latest rows ended in doubt than well; they are not asked about others' rows."""
        found = set()
        for node, undecided in self._undecided.items():
            latest = self._latest[node]
            if 2 * (undecided + sum(latest)) > undecided + len(latest):
                found.add(node)
        return frozenset(found)

    def sick(self, node: str, others: Iterable[str]) -> str | None:
        """Why a node should be drained, as a sentence; None where it should not. ``others`` are the nodes that it is
        compared with; it may be among them."""
        latest = self._latest[node]
        of_others = [overruled for other in others if other != node for overruled in self._latest[other]]
        usual = sum(of_others) / len(of_others) if of_others else 0.0
        share = max(_OVERRULED_SHARE, _TIMES_THE_OTHERS * usual)
        for rows in (list(latest), list(latest)[-_OVERRULED_AT_LEAST:]):
            if (wrong := sum(rows)) >= max(_OVERRULED_AT_LEAST, share * len(rows)):
                (commonest, _), *_ = self.records[node].overruled.most_common(1)
                what = f"{wrong} of its last {len(rows)} rows ended otherwise on other nodes"
                return f"{what}: here most often {commonest}"
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """Every node's record, by name: :meth:`NodeRecord.as_json`."""
        return [record.as_json(node) for node, record in sorted(self.records.items())]
