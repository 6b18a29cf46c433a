"""Parked rows: what has arrived and the table can't hold yet. They go by themselves when that has changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from p2p_replication.admin.read_only import ReadOnlyAdmin
from p2p_replication.models.ledger import Parking, Stream


class ModelFilter(admin.SimpleListFilter):
    title = _("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        streams = Parking.objects.values_list("entry__stream", flat=True).distinct()
        return [(label, label) for label in Stream.objects.filter(pk__in=streams).values_list("label", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Parking]) -> QuerySet[Parking]:
        if not self.value():
            return queryset
        return queryset.filter(entry__stream__in=Stream.objects.filter(label=self.value()).values("pk"))


@admin.register(Parking)
class ParkingAdmin(ReadOnlyAdmin):
    list_display = ["key", "model_label", "reason", "detail", "since", "tries"]
    list_filter = [ModelFilter, "reason"]
    search_fields = ["entry__key", "detail"]
    fields = ["model_label", "key", "reason", "detail", "since", "tries"]
    ordering = ["-since"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Parking]:
        label = Stream.objects.filter(pk=OuterRef("entry__stream")).values("label")[:1]
        parked: QuerySet[Parking] = super().get_queryset(request)
        return parked.select_related("entry").annotate(stream_label=Subquery(label))

    @admin.display(description=_("key"), ordering="entry__key")
    def key(self, parking: Parking) -> str:
        return parking.entry.key

    @admin.display(description=_("model"), ordering="stream_label")
    def model_label(self, parking: Parking) -> str:
        return parking.stream_label  # type: ignore[attr-defined,no-any-return]
