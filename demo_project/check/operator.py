"""A process that writes to a node's database by Django's ORM, as a shell or a script of the project would.

Neither the node's web process nor its worker. Reads one JSON command a line, ``{"do": name, ...arguments}``, and
answers with ``{"value": ...}`` or ``{"error": text}``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import django

Command = Callable[..., Any]


def commands() -> dict[str, Command]:
    """The commands by name; imports models, so Django has to be set up."""
    from django.db import transaction

    from demo_project.survey.models import Observation, Place, Tag

    def place() -> Place:
        found: Place | None = Place.objects.order_by("-population", "id").first()
        assert found is not None, "there is no place"
        return found

    def make(species: Sequence[str], observer: str) -> list[Observation]:
        where = place()
        return [Observation(place=where, observer=observer, species=name) for name in species]

    def save(species: str, observer: str) -> str:
        (observation,) = make([species], observer)
        observation.save()
        return observation.pk.hex

    def bulk_create(species: Sequence[str], observer: str) -> list[str]:
        return [observation.pk.hex for observation in Observation.objects.bulk_create(make(species, observer))]

    def edit(pks: Sequence[str], changes: dict[str, Any], at_ns: int = 0) -> None:
        """Load the rows, wait for the moment, and save them with their changes, in one transaction."""
        observations = list(Observation.objects.filter(pk__in=pks))
        assert len(observations) == len(pks), f"{len(observations)} of {len(pks)} rows are there"
        time.sleep(max(0, at_ns - time.time_ns()) / 1e9)
        with transaction.atomic():
            for observation in observations:
                for name, value in changes.items():
                    setattr(observation, name, value)
                observation.save()

    def queryset_update(pks: Sequence[str], changes: dict[str, Any]) -> int:
        updated: int = Observation.objects.filter(pk__in=pks).update(**changes)
        return updated

    def delete(pks: Sequence[str]) -> int:
        deleted: int = Observation.objects.filter(pk__in=pks).delete()[0]
        return deleted

    def tag(pk: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Add tags to an observation and take some from it, by name; make those that are not there."""
        observation = Observation.objects.get(pk=pk)
        observation.tags.add(*(Tag.objects.get_or_create(name=name)[0] for name in add))
        observation.tags.remove(*Tag.objects.filter(name__in=remove))

    def make_tag(name: str) -> str:
        return Tag.objects.create(name=name).pk.hex

    def save_marked(prefix: str, count: int, pace: float) -> dict[str, int]:
        """Save rows one by one; returns when each was committed, by its mark."""
        where, committed = place(), {}
        for number in range(count):
            mark = f"{prefix}{number:04}"
            Observation(place=where, observer="check", species=mark).save()
            committed[mark] = time.time_ns()
            time.sleep(pace)
        return committed

    return {
        each.__name__: each for each in (save, bulk_create, edit, queryset_update, delete, tag, make_tag, save_marked)
    }


def main() -> None:
    django.setup()
    known = commands()
    print(json.dumps({"value": "ready"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"value": known[command.pop("do")](**command)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
