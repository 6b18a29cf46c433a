"""What replication knows of each row: the change log the triggers write, and the ledger of versions."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from p2p_replication.models.own_tables import ReplicaState

#: Fields in one block of a changed-column bitmap.
BLOCK_BITS = 62


class Stream(ReplicaState):
    """A captured model: its short number in the log and the ledger, and the state of its triggers."""

    id = models.AutoField(primary_key=True)
    #: ``app_label.ModelName``, as on the wire.
    label = models.CharField(max_length=200, unique=True)
    #: Hash of the installed triggers' text; empty while there are none.
    trigger_digest = models.CharField(max_length=64, blank=True, default="")
    layout = models.ForeignKey("FieldLayout", null=True, on_delete=models.SET_NULL, related_name="+")
    #: The last counter given in this stream, by origin: ``{origin id: counter}``.
    own_vector = models.JSONField(default=dict)
    #: The declared merges whose states the ledger has: ``{field: name of the merge}``.
    merges = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.label


class FieldLayout(ReplicaState):
    """An ordered list of fields: what the bits of a change log entry and the parts of a digest mean."""

    id = models.AutoField(primary_key=True)
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, related_name="layouts")
    #: ``[field name, ...]``; a layout is never changed, unless a migration renames a field.
    fields = models.JSONField()

    def __str__(self) -> str:
        return f"{self.stream} layout {self.pk}"


class StreamFilter(ReplicaState):
    """A filter that a declaration of a model has (or had), and its bit in ``LedgerEntry.subsets``."""

    id = models.AutoField(primary_key=True)
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, related_name="filters")
    #: Digest of the canonical text, as in ``Declaration.filter_digest``.
    digest = models.CharField(max_length=64)
    bit = models.SmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["stream", "digest"], name="p2p_filter_key"),
            models.UniqueConstraint(fields=["stream", "bit"], name="p2p_filter_bit"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} filter {self.bit}"


class Gap(ReplicaState):
    """A time in which capture was absent or different; closed by reconciling the table with the ledger."""

    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, related_name="gaps")
    reason = models.CharField(max_length=200)
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["stream"], condition=models.Q(closed_at=None), name="p2p_one_open_gap_a_stream"
            )
        ]

    def __str__(self) -> str:
        return f"{self.stream}: {self.reason}"


class Operation(models.IntegerChoices):
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    #: The row may have been evicted by ``INSERT OR REPLACE``: the table itself says whether it was.
    EVICT = 4
    #: The row was there before replication was, or differs from its digest: found by reconciliation.
    ADOPT = 5


class ChangeLogEntry(ReplicaState):
    """One captured write, appended by a trigger in the writer's own transaction, deleted when it is posted."""

    id = models.BigAutoField(primary_key=True)
    stream = models.IntegerField()
    layout = models.IntegerField()
    key = models.TextField()
    operation = models.SmallIntegerField(choices=Operation.choices)
    #: Bit *i* of block *b* is field ``BLOCK_BITS * b + i`` of the layout.
    columns = models.BigIntegerField(default=0)
    block = models.SmallIntegerField(default=0)
    #: Milliseconds since the epoch, by the database's clock.
    wall = models.BigIntegerField()
    #: The writer's transaction, where the database has a name for it (PostgreSQL).
    transaction = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return f"{self.pk}: {Operation(self.operation).label} {self.stream}/{self.key}"


class LocalWrite(ReplicaState):
    """An update made inside ``local_writes()`` while capture was absent: reconciliation takes it for nobody's edit."""

    stream = models.IntegerField()
    key = models.TextField()
    #: Names of the columns that were written.
    columns = models.JSONField()

    def __str__(self) -> str:
        return f"{self.stream}/{self.key}: {', '.join(self.columns)}"


class EntryStatus(models.IntegerChoices):
    PRESENT = 0, "in the table"
    DELETED = 1, "deleted"
    PARKED = 2, "parked"
    HIDDEN = 3, "outside the pool's filter"


class LedgerEntry(ReplicaState):
    """The version of one row (DESIGN 4). Values lie in the table, except those in ``held``.

    ``clock`` is the clock of every field of ``layout`` that ``field_clocks`` does not name.
    The dots are ``{origin: counter}`` plus ``more_dots``; origins are local numbers (``Origin``).
    """

    id = models.BigAutoField(primary_key=True)
    stream = models.IntegerField()
    key = models.TextField()
    status = models.SmallIntegerField(choices=EntryStatus.choices, default=EntryStatus.PRESENT)
    inserted = models.BigIntegerField()
    deleted = models.BigIntegerField(default=-1)
    clock = models.BigIntegerField()
    #: JSON ``{field: clock}``.
    field_clocks = models.TextField(null=True)
    layout = models.IntegerField()
    origin = models.IntegerField()
    counter = models.BigIntegerField()
    #: JSON ``{origin number: counter}``.
    more_dots = models.TextField(null=True)
    #: The last counter this replica gave the row, kept when foreign dots are taken.
    own_counter = models.BigIntegerField(default=0)
    born_origin = models.IntegerField()
    born_counter = models.BigIntegerField()
    #: Local, new at each change of the row's state or dots.
    seq = models.BigIntegerField()
    #: Four bytes for each field of ``layout``: finds writes that no trigger saw.
    digest = models.BinaryField(default=b"")
    #: msgpack ``{field: value}`` of what is not in the table: a parked or hidden row's values, unknown fields,
    #: fields newer than the tombstone they met.
    held = models.BinaryField(null=True)
    #: msgpack ``{field: [clock, ...]}``: what the writers of fields (and, under "", of the delete) knew of.
    past = models.BinaryField(null=True)
    #: msgpack ``{field: value}`` of the fields with a declared merge: their states; of a row that is not in the table
    #: as its version says (parked), what the table has instead. States of such a row are in ``held``.
    merged = models.BinaryField(null=True)
    #: Bit *n*: the row was in the pools whose filter has the bit *n* (``StreamFilter``), so that peers may have it.
    subsets = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stream", "key"], name="p2p_ledger_key")]
        indexes = [
            models.Index(fields=["stream", "seq"], name="p2p_ledger_seq"),
            models.Index(
                fields=["stream", "status"], condition=models.Q(status=EntryStatus.PARKED), name="p2p_ledger_parked"
            ),
            # Rows with fields that have still to get into the table.
            models.Index(
                fields=["stream", "id"],
                condition=models.Q(status=EntryStatus.PRESENT, held__isnull=False),
                name="p2p_ledger_held",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stream}/{self.key}"


class Parking(ReplicaState):
    """Why a ledger entry is parked, and since when. Ends with the parking; there is no retention."""

    entry = models.OneToOneField(LedgerEntry, on_delete=models.CASCADE, primary_key=True)
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    since = models.DateTimeField(auto_now_add=True)
    tries = models.IntegerField(default=1)
    #: msgpack ``{field: value}`` of the columns that do not travel, of a row that was taken out of its table.
    local_values = models.BinaryField(null=True)

    class Meta:
        verbose_name = _("parked row")
        verbose_name_plural = _("parked rows")

    def __str__(self) -> str:
        return f"{self.entry}: {self.reason}"
