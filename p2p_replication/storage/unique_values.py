"""Which rows of a table hold the unique values that another row is to have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.lookups import Exact, IsNull

from p2p_replication.storage.applier import REFUSALS
from p2p_replication.storage.replica_database import StreamStore

Constraint = models.UniqueConstraint


class UniqueValues:
    """The unique constraints of a model that are the same on all replicas: those of fields that travel."""

    def __init__(self, stream: StreamStore) -> None:
        self.stream = stream
        self.model = stream.table.options.model
        self.key = stream.table.options.key_field
        self.constraints = [c for c in _constraints(self.model) if self._travels(c) and _named(c) != {self.key.name}]

    def holders(self, key: str, values: Mapping[str, Any]) -> dict[str, str]:
        """Return ``{key: name of the constraint}`` of the other rows in the table that hold what a row is to have.

        Args:
            values: the row's, as they travel.
        """
        found: dict[str, str] = {}
        if self.constraints:
            # Values that the database can't even compare are held by nobody; the transaction goes on.
            with suppress(*REFUSALS), self._savepoint():
                wanted, absent = self._instance(key, values)
                for constraint in self.constraints:
                    if absent & _named(constraint):
                        continue  # What is not here, no row refers to.
                    others = self._others(constraint, wanted)
                    if others is not None:
                        found |= dict.fromkeys(self._keys(others), constraint.name)
        return found

    def _savepoint(self) -> AbstractContextManager[None]:
        connection = self.stream.table.connection
        return transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext()

    def _travels(self, constraint: Constraint) -> bool:
        return _named(constraint) <= {*self.stream.table.names, self.key.name}

    def _instance(self, key: str, values: Mapping[str, Any]) -> tuple[models.Model, frozenset[str]]:
        """Return the row as an object of the model, and its foreign keys whose targets are not here.

        What nobody gave a value is as it is in the table.
        """
        table, meta = self.stream.table, self.model._meta
        manager = self.model._base_manager.using(table.connection.alias)
        casts, params = [self._cast(self.key)], [key]
        if table.local_column is not None:
            casts.append(f"NULL AS {table.quoted(table.local_column)}")  # Django wants one.
        values, absent = table.references.as_far_as_known(values)
        for name, value in values.items():
            if name in table.codecs:
                convert = table.codecs[name].from_wire
                field = meta.get_field(name)
                assert isinstance(field, models.Field)
                casts.append(self._cast(field))
                params.append(convert(value) if convert and value is not None else value)
        # The database's own values become Python's by way of the database.
        (given,) = manager.raw(f"SELECT {', '.join(casts)}", params)
        same = {self.key.attname: getattr(given, self.key.attname)}
        instance = manager.filter(**same).first() or self.model(**same)
        for name in values.keys() & table.codecs.keys():
            attribute = meta.get_field(name).attname  # type: ignore[union-attr]
            setattr(instance, attribute, getattr(given, attribute))
        return instance, absent

    def _cast(self, field: models.Field[Any, Any]) -> str:
        table = self.stream.table
        kind = "" if table.vendor.has_one_write_lock else field.cast_db_type(table.connection)
        column = table.quoted(field.column or "")
        return f"CAST(%s AS {kind}) AS {column}" if kind else f"%s AS {column}"

    def _others(self, constraint: Constraint, wanted: models.Model) -> QuerySet[models.Model] | None:
        """Return the other rows that have the same values; None if these values clash with nobody's."""
        using, meta = self.stream.table.connection.alias, self.model._meta
        others = self.model._base_manager.using(using).exclude(**{self.key.attname: getattr(wanted, self.key.attname)})
        nulls_differ = constraint.nulls_distinct is not False
        given = wanted._get_field_expression_map(meta)  # type: ignore[attr-defined]
        if constraint.fields:
            held = {name: getattr(wanted, meta.get_field(name).attname) for name in constraint.fields}  # type: ignore[union-attr]
            if nulls_differ and None in held.values():
                return None
            others = others.filter(**held)
        else:
            replacements = {F(name): value for name, value in given.items()}
            expressions: Sequence[Any] = constraint.expressions
            for expression in expressions:
                if hasattr(expression, "get_expression_for_validation"):
                    expression = expression.get_expression_for_validation()
                value = expression.replace_expressions(replacements)
                same = Q(Exact(expression, value))
                both_null = Q(IsNull(expression, True), IsNull(value, True))
                others = others.filter(same if nulls_differ else same | both_null)
        if constraint.condition is None:
            return others
        # Q.check() takes "unknown" for true, an index does not take such rows: so the opposite is asked.
        if (~constraint.condition).check(given, using=using):
            return None
        return others.filter(constraint.condition)

    def _keys(self, rows: QuerySet[models.Model]) -> list[str]:
        """Return the keys as the ledger has them."""
        table = self.stream.table
        query = rows.order_by().values(self.key.attname).query
        sql, params = query.get_compiler(connection=table.connection).as_sql()
        with table.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {table.key_text('t')} FROM {table.name} t WHERE t.{table.key_column} IN ({sql})", params
            )
            return [str(record[0]) for record in cursor.fetchall()]


def _constraints(model: type[models.Model]) -> Iterator[Constraint]:
    """Yield all unique constraints of a model in one form, but the primary key."""
    meta = model._meta
    for field in meta.concrete_fields:
        if field.unique and not field.primary_key:
            yield Constraint(fields=[field.name], name=field.name)
    for together in meta.unique_together:
        yield Constraint(fields=list(together), name=", ".join(together))
    yield from (constraint for constraint in meta.constraints if isinstance(constraint, Constraint))


def _named(constraint: Constraint) -> set[str]:
    """Return the names of the fields that a constraint is over."""
    if constraint.fields:
        return set(constraint.fields)
    return {
        str(part.name)  # type: ignore[attr-defined]
        for expression in constraint.expressions
        for part in _parts(expression)
        if isinstance(part, F)
    }


def _parts(expression: Any) -> Iterator[Any]:
    """Yield an expression and all that it is made of."""
    yield expression
    if hasattr(expression, "get_source_expressions"):
        for part in expression.get_source_expressions():
            yield from _parts(part)
