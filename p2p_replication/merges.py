"""Merges that a model can declare for its fields: ``merge = {"visits": Counter()}`` (docs/merges.md)."""

from p2p_replication.protocol.field_merges import Counter, FieldMerge, Max, Min, Union

__all__ = ["Counter", "FieldMerge", "Max", "Min", "Union"]
