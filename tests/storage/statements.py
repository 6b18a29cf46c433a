"""Statements of the state machine: each writes to one replica's tables, and says what it did to which row."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db import IntegrityError, connections, transaction
from django.db.models import F
from hypothesis import strategies as st

from tests.storage.conftest import StorageReplica
from tests.storage.row_oracle import Event, Row
from tests.testapp.models import Book, Coin, Player, Ruled, Shelf, Team

MODELS: dict[str, Any] = {model._meta.label: model for model in (Coin, Ruled, Shelf, Book, Team, Player)}
#: The models of one example.
CHOICES = (
    ("testapp.Coin", "testapp.Ruled"), ("testapp.Shelf", "testapp.Book"), ("testapp.Team", "testapp.Player"),
    ("testapp.Coin",), ("testapp.Ruled",),
)  # fmt: skip
KEYS = 4
KINDS = ("insert", "bulk_create", "update", "update two", "update all", "delete", "upsert", "move", "touch")

#: ``{model: {wire key: row}}``
Tables = dict[str, dict[Any, Row]]
Happened = list[tuple[str, Any, Event]]


class Statement(NamedTuple):
    kind: str
    #: Of the example's models.
    model: int
    key: int
    #: Another key, and what to write.
    other: int
    value: int


statements = st.builds(
    Statement, st.sampled_from(KINDS), st.integers(0, 1), *[st.integers(0, KEYS - 1)] * 2, st.integers(0, 3)
)


def key_of(label: str, number: int) -> Any:
    return "wxyz"[number] if label == "testapp.Coin" else uuid.UUID(int=number + 1)


def wire(value: Any) -> Any:
    return value.bytes if isinstance(value, uuid.UUID) else value


def read_tables(replica: StorageReplica, labels: Sequence[str]) -> Tables:
    """Return all rows, as the application sees them, by their names on the wire."""
    tables: Tables = {}
    for label in labels:
        fields = [f for f in MODELS[label]._meta.concrete_fields if not f.primary_key]
        rows = MODELS[label].objects.using(replica.alias).values_list("pk", *[f.attname for f in fields])
        tables[label] = {
            wire(key): {f.name: wire(value) for f, value in zip(fields, row, strict=True)} for key, *row in rows
        }
    return tables


def execute(replica: StorageReplica, labels: Sequence[str], statement: Statement) -> Happened:
    """Run a statement; one that the database refuses does nothing."""
    label = labels[statement.model % len(labels)]
    written = wire(key_of(label, statement.key))
    return observed(replica, labels, lambda: _run(replica, label, statement), label, written)


def observed(
    replica: StorageReplica, labels: Sequence[str], write: Callable[[], Any], label: str = "", written: Any = None
) -> Happened:
    """Write; return ``(model, wire key, event)`` of each row that has changed.

    Args:
        write: returns the wire key of the row that it replaced, if it did; other rows are evicted by that.
        label, written: the row that it wrote to by intention.
    """
    before, since = read_tables(replica, labels), now_ms()
    try:
        with transaction.atomic(using=replica.alias):
            replaced = write()
    except IntegrityError:
        return []
    after, until = read_tables(replica, labels), now_ms()
    happened = []
    for name in labels:
        for key in {*before[name], *after[name]}:
            old, new = before[name].get(key), after[name].get(key)
            is_evicted = replaced is not None and key != written
            event = event_of(old, new, name == label and key == replaced, is_evicted, since, until)
            if event is not None:
                happened.append((name, key, event))
    return happened


def event_of(
    old: Row | None, new: Row | None, is_replaced: bool, is_evicted: bool, since: int, until: int
) -> Event | None:
    if old is not None and new is not None:
        changed = frozenset(name for name in new if old[name] != new[name])
        if is_replaced:
            return Event("replace", since, until, frozenset(new))
        return Event("edit", since, until, changed) if changed else None
    if new is not None:
        return Event("insert", since, until, frozenset(new))
    return Event("evict" if is_evicted else "delete", since, until) if old is not None else None


def now_ms() -> int:
    return int(time.time() * 1000)


def values_of(replica: StorageReplica, label: str, v: int) -> dict[str, Any]:
    """Return values for a row; parents are rows that are there, if any are."""

    def some(model: Any) -> Any:
        keys = sorted(model.objects.using(replica.alias).values_list("pk", flat=True))
        return keys[v % len(keys)] if keys else uuid.UUID(int=v + 1)

    match label:
        case "testapp.Coin":
            return {"name": str(v % 2), "rate": v}
        case "testapp.Ruled":
            return {"code": f"c{v}" if v else None, "left": v or None, "right": v % 2, "amount": v, "must": str(v % 2)}
        case "testapp.Shelf":
            return {"name": f"s{v}"}
        case "testapp.Book":
            return {"title": str(v), "shelf_id": some(Shelf)}
        case "testapp.Team":
            return {"name": str(v), "captain_id": some(Player) if v > 1 else None}
        case _:
            return {"name": str(v), "team_id": some(Team)}


def _run(replica: StorageReplica, label: str, statement: Statement) -> Any:
    """Run it; return the wire key of a row that was replaced (or moved over another), on SQLite."""
    kind, _, number, other, v = statement
    model, key, values = MODELS[label], key_of(label, number), values_of(replica, label, v)
    rows = model.objects.using(replica.alias)
    names = list(values)
    if kind == "insert":
        rows.create(pk=key, **values)
    elif kind == "bulk_create":
        keys = {key, key_of(label, other)}
        rows.bulk_create([model(pk=k, **values_of(replica, label, i + v)) for i, k in enumerate(sorted(keys))])
    elif kind == "update":
        name = names[other % len(names)]
        rows.filter(pk=key).update(**{name: values[name]})
    elif kind == "update two":
        rows.filter(pk=key).update(**dict(list(values.items())[:2]))
    elif kind == "update all":
        rows.update(**{names[-1]: values[names[-1]]})
    elif kind == "touch":
        rows.filter(pk=key).update(**{names[0]: F(names[0])})
    elif kind == "delete":
        rows.filter(pk=key).delete()
    elif kind == "upsert":
        _upsert(replica, label, key, values)
        return wire(key) if replica.site.vendor == "sqlite" else None
    elif v % 2 and replica.site.vendor == "sqlite" and number != other and rows.filter(pk=key).exists():
        meta = model._meta
        replica.sql(
            f"UPDATE OR REPLACE {meta.db_table} SET {meta.pk.column} = %s WHERE {meta.pk.column} = %s",
            [getattr(key_of(label, other), "hex", key_of(label, other)), getattr(key, "hex", key)],
        )
        return wire(key_of(label, other))
    else:
        rows.filter(pk=key).update(**{model._meta.pk.name: key_of(label, other)})
    return None


def _upsert(replica: StorageReplica, label: str, key: Any, values: dict[str, Any]) -> None:
    """INSERT OR REPLACE, or what PostgreSQL has for it. Columns that are not named get the model's defaults."""
    meta = MODELS[label]._meta
    row = MODELS[label](pk=key, **values)
    fields, connection = meta.concrete_fields, connections[replica.alias]
    columns = ", ".join(f'"{f.column}"' for f in fields)
    record = [f.get_db_prep_save(getattr(row, f.attname), connection) for f in fields]
    marks = ", ".join(["%s"] * len(fields))
    if replica.site.vendor == "sqlite":
        replica.sql(f"INSERT OR REPLACE INTO {meta.db_table} ({columns}) VALUES ({marks})", record)
        return
    updates = ", ".join(f'"{f.column}" = EXCLUDED."{f.column}"' for f in fields if not f.primary_key)
    replica.sql(
        f"INSERT INTO {meta.db_table} ({columns}) VALUES ({marks}) "
        f"ON CONFLICT ({meta.pk.column}) DO UPDATE SET {updates}",
        record,
    )
