"""The automatic table of a many-to-many field: its rows are known by their two ends, their own number is local."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.registry import Options
from p2p_replication.storage.codecs import FieldCodec
from p2p_replication.storage.link_keys import end_texts, link_codec, link_text, split
from p2p_replication.storage.table import ModelTable


def table_of(connection: BaseDatabaseWrapper, options: Options) -> ModelTable:
    """Return the table of a model that replicates."""
    return LinkTable(connection, options) if options.ends else ModelTable(connection, options)


class LinkTable(ModelTable):
    """Links by the key text that ``link_keys`` describes; a link has no values."""

    def _key_fields(self) -> tuple[models.Field[Any, Any], ...]:
        return self.options.ends

    def _key_codec(self) -> FieldCodec:
        self.ends = [self.vendor.codec_for(end) for end in self.options.ends]
        return link_codec(self.ends)

    def key_text(self, alias: str) -> str:
        first, second = (self.vendor.key_text(f"{alias}.{column}") for column in self._end_columns())
        return link_text(first, second)

    def has_key(self, alias: str, text: str) -> str:
        texts = end_texts(text, self.vendor.position)
        return " AND ".join(
            f"{alias}.{column} = {self.vendor.key_value(end, codec.wire_type)}"
            for column, end, codec in zip(self._end_columns(), texts, self.ends, strict=True)
        )

    def has_keys(self, alias: str, keys: Sequence[str]) -> tuple[str, list[Any]]:
        number = self.quoted("id")
        pairs = ", ".join(["(%s, %s)"] * len(keys))
        found = " AND ".join(
            f"k.{column} = {self.vendor.key_value(end, codec.wire_type)}"
            for column, end, codec in zip(self._end_columns(), ("v.one", "v.other"), self.ends, strict=True)
        )
        # SQLite uses no index for (one, other) IN (...); CROSS JOIN lets it begin with the keys.
        return (
            f"{alias}.{number} IN (WITH v(one, other) AS (VALUES {pairs}) "
            f"SELECT k.{number} FROM v CROSS JOIN {self.name} k WHERE {found})",
            [end for key in keys for end in self.key_values(key)],
        )

    def key_values(self, key: str) -> tuple[str, ...]:
        return split(key)

    def reference(self, name: str, key: str, values: Mapping[str, Any]) -> Any:
        return split(key)[[end.name for end in self.options.ends].index(name)]

    def _end_columns(self) -> list[str]:
        return [self.quoted(column) for column in self.key_columns]
