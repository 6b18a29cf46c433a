"""What a slice of incoming states means for the application's table: inserts, updates and deletes, in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2p_replication.protocol.row_state import RowState, same_value
from p2p_replication.storage.link_rows import take_out_links
from p2p_replication.storage.parking import LEAVING, MISSING_PARENT, REFERENCED
from p2p_replication.storage.references import NewKeys
from p2p_replication.storage.relations import Arriving
from p2p_replication.storage.replica_database import StreamStore
from p2p_replication.storage.table import WireRow


class TableChanges:
    """Gathers the writes of a slice, takes out what would break a foreign key, and writes the rest."""

    def __init__(self, stream: StreamStore) -> None:
        self.stream = stream
        self.inserts: dict[str, Mapping[str, Any]] = {}
        self.updates: dict[str, Mapping[str, Any]] = {}
        self.deletes: dict[str, None] = {}
        #: Rows that leave the table and live on elsewhere.
        self.hides: dict[str, None] = {}
        self.resets: dict[str, list[str]] = {}
        #: Once it is written: the foreign keys that are null for now, as what they refer to is not there yet, by key.
        self.awaited: dict[str, frozenset[str]] = {}

    def add(self, key: str, state: RowState, row: WireRow | None, *, of_earlier_life: bool = False) -> None:
        """Plan what brings the table's row (None: it is not there) to a state.

        Args:
            of_earlier_life: the table's row is of a life that has ended; what the new one's writer lacks gets its
                default, as in a new row.
        """
        if not state.alive:
            if row is not None:
                self.deletes[key] = None
        elif row is None:
            self.inserts[key] = self.stream.shown(state.values)
        else:
            names, values = self.stream.table.names, self.stream.shown(state.values)
            changed = {
                name: values[name]
                for name, value in zip(names, row, strict=True)
                if name in values and not same_value(value, values[name])
            }
            if changed:
                self.updates[key] = changed
            if of_earlier_life and (lacking := [name for name in names if name not in values]):
                self.resets[key] = lacking

    def hide(self, key: str, row: WireRow | None) -> None:
        """Plan that the table has the row no more, without its being deleted."""
        if row is not None:
            self.hides[key] = None

    def refused(self, arriving: Arriving | None = None, leaving: Arriving | None = None) -> dict[str, tuple[str, str]]:
        """Take out the rows whose parents are missing, and deletes of rows that others refer to: ``{key: why}``.

        Args:
            arriving, leaving: keys that are written, or deleted, in the same transaction, by ``(table, key column)``.
        """
        refused: dict[str, tuple[str, str]] = {}
        relations = self.stream.relations
        # A parent of the same table may be taken out itself: then its children are next.
        while relations.has_parents and (self.inserts or self.updates):
            rows = [*self.inserts.items(), *self.updates.items()]
            missing = relations.missing_parents(rows, arriving or {}, leaving or {})
            if not missing:
                break
            for key, parent in missing.items():
                refused[key] = (MISSING_PARENT, parent)
                self.inserts.pop(key, None)
                self.updates.pop(key, None)
                self.resets.pop(key, None)
        if self.deletes and relations.children:
            for key, child in relations.still_referenced(list(self.deletes)).items():
                if key in self.deletes:
                    refused[key] = (REFERENCED, child)
                    del self.deletes[key]
        if self.hides and (relations.children or relations.links):
            # Rows of many-to-many tables count: nobody could put them back.
            for key, child in relations.still_referenced(list(self.hides), with_links=True).items():
                if key in self.hides:
                    refused[key] = (LEAVING, f"{child} refers to it")
                    del self.hides[key]
        return refused

    def new_keys(self) -> NewKeys:
        """Take the primary keys of the rows that are to be inserted, where the primary key is not the key."""
        table = self.stream.table
        return {table.name: table.new_local_keys(list(self.inserts))}

    def write(self, *, swapping: bool = False, new: NewKeys | None = None) -> None:
        """Write the plan.

        Args:
            swapping: rows may have swapped unique values among each other.
            new: ``new_keys()`` of all plans of the transaction, whose rows may refer to each other.
        """
        table = self.stream.table
        new = new or self.new_keys()
        self._note_arrivals()
        # First what frees unique values, then what takes them.
        if self.deletes:
            self.stream.relations.delete_links(list(self.deletes))
            take_out_links(self.stream, list(self.deletes))
            table.delete(list(self.deletes))
        if self.hides:
            table.delete(list(self.hides))
        updates, awaited = table.references.localized(self.updates, new)
        inserts, more = table.references.localized(self.inserts, new)
        self.awaited = {**awaited, **more}
        self.stream.awaits_targets = self.stream.awaits_targets or bool(self.awaited)
        if swapping and updates and not self.stream.relations.database_acts:
            table.rewrite(updates)
        else:
            for key, values in updates.items():
                table.update(key, values)
        for key, names in self.resets.items():
            table.reset(key, names)
        table.insert(list(inserts.items()), new[table.name])

    def _note_arrivals(self) -> None:
        updated = {key: set(values) for key, values in self.updates.items()}
        for key, names in self.resets.items():
            updated.setdefault(key, set()).update(names)
        arrivals = self.stream.database.arrivals
        arrivals.note(self.stream.table.options, list(self.inserts), updated, list(self.deletes))
