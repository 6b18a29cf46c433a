from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext


@pytest.fixture
def written() -> Callable[..., Any]:
    """``with written() as columns``: the columns of the test app's tables that UPDATE statements set."""
    return _Written


class _Written:
    def __init__(self, alias: str = "default") -> None:
        self._queries = CaptureQueriesContext(connections[alias])

    def __enter__(self) -> list[str]:
        self._queries.__enter__()
        self._columns: list[str] = []
        return self._columns

    def __exit__(self, *error: Any) -> None:
        self._queries.__exit__(*error)
        self._columns.extend(sorted(self._found()))

    def _found(self) -> Iterator[str]:
        for query in self._queries.captured_queries:
            sql = query["sql"]
            if sql.startswith('UPDATE "testapp_'):
                assignments = sql.split(" SET ", 1)[1].rsplit(" WHERE ", 1)[0]
                # Column names only: values of these tests contain no quoted words.
                yield from (part.split('"')[1] for part in assignments.split(", ") if part.startswith('"'))
