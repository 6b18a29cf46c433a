"""What a foreign key's ``on_delete`` asks for when the row that it refers to is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db import models
from django.db.models.expressions import Value


class Rule(Enum):
    #: Delete the referring row as well.
    DELETE = 1
    #: Let it refer to something else, or to nothing.
    SET = 2
    #: The row that it refers to must stay.
    PROTECT = 3
    #: That must stay, unless the referring row goes for another reason.
    RESTRICT = 4
    #: Django leaves it to somebody else.
    NOTHING = 5


@dataclass(frozen=True)
class Answer:
    rule: Rule
    #: What to refer to instead, of ``SET``.
    value: Any = None


def ask(field: models.ForeignKey[Any, Any], using: str) -> Answer:
    """Ask a foreign key's ``on_delete``, whatever it is: one of Django's, ``SET(...)`` or a project's own."""
    on_delete: Any = field.remote_field.on_delete
    # Those of Django 6.1 that are carried out by the database are objects that say what it does.
    operation = getattr(on_delete, "operation", None)
    if operation == "CASCADE":
        return Answer(Rule.DELETE)
    if operation == "SET NULL":
        return Answer(Rule.SET)
    if operation == "SET DEFAULT":
        return _set(field.db_default)
    asked = _Asked()
    try:
        on_delete(asked, field, [field.model()], using)
    except models.ProtectedError:
        return Answer(Rule.PROTECT)
    return asked.answer


class _Asked:
    """Stands where Django's collector does, and notes what it is told to do."""

    def __init__(self) -> None:
        self.answer = Answer(Rule.NOTHING)

    def collect(self, objs: Any, *args: Any, **kwargs: Any) -> None:
        self.answer = Answer(Rule.DELETE)

    def add_field_update(self, field: Any, value: Any, objs: Any) -> None:
        if self.answer.rule is Rule.NOTHING:
            self.answer = _set(value)

    def add_restricted_objects(self, field: Any, objs: Any) -> None:
        self.answer = Answer(Rule.RESTRICT)

    def add_dependency(self, model: Any, dependency: Any, **kwargs: Any) -> None:
        """The order of deletes is known by other means."""


def _set(value: Any) -> Answer:
    if isinstance(value, Value):
        value = value.value
    if value is models.NOT_PROVIDED or hasattr(value, "resolve_expression"):
        return Answer(Rule.NOTHING)  # Only the database knows the value.
    return Answer(Rule.SET, value.pk if isinstance(value, models.Model) else value)
