"""What the answers of other nodes say of a node."""

import pytest

from posecap.run.pool import UNDECIDED_AT_MOST, Health, NodeChange


def enter(health: Health, node: str, *rows: tuple[int, str]) -> None:
    for count, verdict in rows:
        for _ in range(count):
            if verdict == "kept":
                health.ended(node, "kept", "", decided="yes")
            else:
                health.ended(node, "failed", "error", decided="not yet")
                health.decide({node: "error"}, verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("here", "there", "sick"),
    [
        ([(4, "overruled")], [(4, "kept")], True),
        ([(3, "overruled")], [(20, "kept")], False),  # too few to tell
        ([(4, "overruled"), (5, "kept")], [(20, "kept")], False),  # less than half
        ([(20, "confirmed")], [(20, "kept")], False),  # the rows are the cause
        ([(8, "overruled"), (8, "kept")], [(6, "overruled"), (14, "kept")], False),  # the others are no better
        ([(100, "kept"), (4, "overruled")], [(20, "kept")], True),  # it was well once
        ([(100, "kept"), (4, "overruled"), (1, "kept")], [(20, "kept")], False),
    ],
)
def test_a_node_is_sick_when_others_overrule_it_far_more_often_than_each_other(here, there, sick) -> None:
    health = Health()
    enter(health, "a", *here)
    enter(health, "b", *there)
    assert (health.sick("a", {"a", "b"}) is not None) == sick


def test_a_node_is_held_while_many_of_its_rows_wait_for_another_answer() -> None:
    health = Health()
    for _ in range(UNDECIDED_AT_MOST):
        assert health.held() == frozenset()
        health.ended("a", "rejected", "not_found", decided="not yet")
    assert health.held() == {"a"}
    health.decide({"a": "not_found"}, "confirmed")
    assert health.held() == frozenset()


def test_a_node_is_unreliable_while_its_rows_end_in_doubt_one_after_the_other() -> None:
    health = Health()
    enter(health, "a", (3, "kept"))
    health.ended("a", "failed", "error", decided="not yet")
    assert health.unreliable() == frozenset()
    health.ended("a", "failed", "error", decided="not yet")
    assert health.unreliable() == {"a"}
    health.decide({"a": "error"}, "overruled")
    assert health.unreliable() == {"a"}
    health.decide({"a": "error"}, "confirmed")
    assert health.unreliable() == frozenset()


def test_a_record_says_how_rows_ended_and_why_the_node_is_no_longer_used() -> None:
    health = Health()
    enter(health, "a", (4, "overruled"), (2, "kept"))
    why = health.sick("a", {"a", "b"})
    assert why == "4 of its last 6 rows ended otherwise on other nodes: here most often error"
    health.change(NodeChange("a", "drained", why))
    health.change(NodeChange("a", "lost", "its node is gone"))
    health.returned("a")
    assert health.as_json() == [
        {
            "node": "a",
            "state": "drained",
            "why": why,
            "ended": {"failed": {"error": 4}, "kept": {"": 2}},
            "overruled": {"error": 4},
            "returned": 1,
        }
    ]
