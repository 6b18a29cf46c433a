"""Who is asked, and when: one pull at a time, the first ones first, parents before children, relays after a grace."""

from __future__ import annotations

from p2p_replication.protocol.pull_schedule import GRACE, PullSchedule


def want(schedule: PullSchedule, peer: str, model: str = "m", rank: int = 0, now: float = 0.0, **how: bool) -> None:
    schedule.want(peer, model, rank, now, **{"initial": False, "direct": False, **how})


def test_one_pull_is_under_way_at_a_time():
    schedule = PullSchedule()
    want(schedule, "p", initial=True)
    want(schedule, "q", initial=True)
    assert schedule.next(0.0) == ("p", {"m": True})
    assert schedule.next(9.0) is None
    assert schedule.next_due() is None
    schedule.done("q", "m")
    assert schedule.next(9.0) is None
    schedule.done("p", "m")
    assert schedule.next(9.0) == ("q", {"m": True})
    schedule.done("q", "m")
    assert schedule.next(9.0) is None


def test_a_relayed_announcement_waits_for_the_origins_own_push():
    schedule = PullSchedule()
    want(schedule, "relay", now=1.0)
    assert schedule.next(1.0) is None
    assert schedule.next_due() == 1.0 + GRACE
    want(schedule, "origin", now=1.05, direct=True)
    assert schedule.next(1.05) == ("origin", {"m": False})
    schedule.done("origin", "m")
    assert schedule.next(1.0 + GRACE) == ("relay", {"m": False})


def test_a_wish_said_twice_is_one_and_never_gets_later():
    schedule = PullSchedule()
    want(schedule, "p", now=1.0)
    want(schedule, "p", now=1.1)
    assert schedule.next_due() == 1.0 + GRACE
    want(schedule, "p", now=1.1, direct=True)
    assert schedule.next(1.1) == ("p", {"m": False})
    schedule.done("p", "m")
    assert schedule.next(9.0) is None


def test_first_pulls_come_before_others_and_parents_before_children():
    schedule = PullSchedule()
    want(schedule, "p", "news", 0, direct=True)
    want(schedule, "p", "child", 1, initial=True)
    want(schedule, "q", "parent", 0, initial=True)
    order = []
    while (pull := schedule.next(0.0)) is not None:
        order.append((pull.peer, list(pull.models)))
        for model in pull.models:
            schedule.done(pull.peer, model)
    assert order == [("q", ["parent"]), ("p", ["news", "child"])]


def test_a_peer_is_asked_for_all_at_once_and_others_wait_for_all_of_it():
    schedule = PullSchedule()
    want(schedule, "p", "child", 1, now=1.0, direct=True)
    want(schedule, "p", "parent", 0, now=1.0, direct=True)
    want(schedule, "p", "relayed", 0, now=1.0)
    want(schedule, "q", "child", 1, now=1.0, direct=True)
    pull = schedule.next(1.0)
    assert pull is not None
    assert (pull.peer, list(pull.models)) == ("p", ["parent", "relayed", "child"])
    schedule.done("p", "parent")
    schedule.done("p", "relayed")
    assert schedule.next(1.0) is None
    schedule.done("p", "child")
    assert schedule.next(1.0) == ("q", {"child": False})


def test_a_peer_that_leaves_takes_its_wishes_and_its_pull_along():
    schedule = PullSchedule()
    for model in "mn":
        want(schedule, "p", model, initial=True)
    want(schedule, "q", initial=True)
    assert schedule.next(0.0) == ("p", {"m": True, "n": True})
    schedule.gone("p")
    assert schedule.next(0.0) == ("q", {"m": True})
    schedule.gone("p")
    assert schedule.next(0.0) is None
