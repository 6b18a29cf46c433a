from django.db import models

from p2p_replication.models import ReplicatedModel


class Invoice(ReplicatedModel):
    """A table that was there before Django."""

    total = models.IntegerField()

    class Meta:
        managed = False
        db_table = "old_invoices"

    def __str__(self):
        return str(self.total)


class BigInvoice(models.Model):
    """A view."""

    id = models.UUIDField(primary_key=True)
    total = models.IntegerField()

    class Meta:
        managed = False
        db_table = "big_invoices"

    def __str__(self):
        return str(self.total)
