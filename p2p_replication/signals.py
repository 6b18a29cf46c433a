"""Django signals that replication sends."""

from __future__ import annotations

from django.dispatch import Signal

#: Rows of a model came in from a peer and are committed. Sent by the worker, in its database thread, with
#: ``sender`` (the model), ``keys`` (primary keys, Python values; also apart: ``inserted``, ``updated``, ``deleted``),
#: ``peer`` (the replica id of who sent them; empty for rows that had been parked), ``pool`` (its row; None likewise)
#: and ``using`` (the database's alias).
rows_replicated = Signal()
