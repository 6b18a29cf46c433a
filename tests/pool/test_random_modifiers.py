"""Any order of edits, meetings and modifiers: replicas without modifiers lose nothing, end equal, and come to rest."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication.testing import LocalPool
from tests.testapp import modifiers
from tests.testapp.models import Note

DIRECTIONS: list[dict[str, Any]] = [
    {},
    {"push": None},
    {"pull": None},
    *({way: {"modifier": m}} for way in ("pull", "push") for m in (modifiers.no_secrets, modifiers.masked)),
    {"pull": {"modifier": modifiers.shouting}, "push": {"modifier": modifiers.without_body}},
]
KEYS = st.integers(0, 2)
WRITES = ["title", "body", "stars", "secret", "delete", "create"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(WRITES), st.sampled_from("abm"), KEYS),
        st.tuples(st.just("declare"), st.sampled_from(DIRECTIONS)),
        st.tuples(st.just("apart"), st.sampled_from(["a|bm", "b|am", "m|ab", "a|b|m", "abm"])),
        st.tuples(st.just("sync")),
    ),
    min_size=4,
    max_size=16,
)  # fmt: skip


def write(alias: str, kind: str, number: int, value: str) -> None:
    rows = Note.objects.using(alias).filter(pk=uuid.UUID(int=number + 1))
    match kind:
        case "create" if not rows.exists():
            Note.objects.using(alias).create(pk=uuid.UUID(int=number + 1), title=f"t{value}", body=f"b{value}")
        case "title" | "body":
            rows.update(**{kind: f"{kind[0]}{value}"})
        case "secret":
            rows.update(title=f"secret {value}")
        case "stars":
            rows.update(stars=len(value))
        case "delete":
            rows.delete()


@pytest.mark.django_db
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_replicas_without_modifiers_end_equal_whatever_another_one_does(steps: Any) -> None:
    with LocalPool("a", "b", "m", models=[Note]) as pool:
        for count, (kind, *values) in enumerate(steps):
            match kind:
                case "declare":
                    pool.declare("m", Note, **values[0])
                case "apart":
                    pool.partition(*values[0].split("|"))
                case "sync":
                    pool.sync()
                case _:
                    write(values[0], kind, values[1], f"{values[0]}{count}")
                    pool.clock.advance(1)
        pool.heal()
        pool.sync()
        pool.assert_converged("a", "b")
        pool.declare("m", Note)
        pool.sync()
        # m may lack rows that its modifiers have refused.
        pool.assert_converged("a", "b")
        before = {alias: list(Note.objects.using(alias).order_by("pk").values_list()) for alias in "abm"}
        pool.sync()
        assert {alias: list(Note.objects.using(alias).order_by("pk").values_list()) for alias in "abm"} == before
        assert pool.errors == []
        assert not any(pool.parked(alias) for alias in "abm")
