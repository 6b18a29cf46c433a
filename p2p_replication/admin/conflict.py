"""The conflict log: what lost to others whose writers did not know of it, and a button that brings it back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from p2p_replication.admin.read_only import ReadOnlyAdmin
from p2p_replication.exceptions import CannotRestore
from p2p_replication.models.conflict import Conflict, shown_values
from p2p_replication.models.pool import Peer


class ModelFilter(admin.SimpleListFilter):
    title = _("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        labels = Conflict.objects.order_by("model").values_list("model", flat=True).distinct()
        return [(label, label) for label in labels]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conflict]) -> QuerySet[Conflict]:
        return queryset.filter(model=self.value()) if self.value() else queryset


@admin.register(Conflict)
class ConflictAdmin(ReadOnlyAdmin):
    list_display = ["key", "model", "lost_text", "won_text", "writer", "noticed_at", "restored_at"]
    list_filter = [ModelFilter, "kind", ("restored_at", admin.EmptyFieldListFilter)]
    search_fields = ["key"]
    fields = ["model", "key", "kind", "lost_text", "writer", "won_text", "winner", "noticed_at", "restored_at"]
    ordering = ["-noticed_at", "-pk"]
    actions = ["restore_selected"]

    @admin.display(description=_("lost"))
    def lost_text(self, conflict: Conflict) -> str:
        return shown_values(conflict.lost_values)

    @admin.display(description=_("won"))
    def won_text(self, conflict: Conflict) -> str:
        return shown_values(conflict.won_values) if conflict.won is not None else str(_("the row was deleted"))

    @admin.display(description=_("written by"), ordering="lost_by")
    def writer(self, conflict: Conflict) -> str:
        return _name(conflict.lost_by)

    @admin.display(description=_("lost to"), ordering="won_by")
    def winner(self, conflict: Conflict) -> str:
        return _name(conflict.won_by)

    def has_restore_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("p2p_replication.change_conflict")

    @admin.action(description=_("Restore what lost, as a new change"), permissions=["restore"])
    def restore_selected(self, request: HttpRequest, queryset: QuerySet[Conflict]) -> None:
        restored = 0
        for conflict in queryset:
            try:
                conflict.restore()
            except CannotRestore as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                restored += 1
        if restored:
            text = ngettext("%d conflict is restored: its values replicate as a new change.",
                            "%d conflicts are restored: their values replicate as new changes.", restored)  # fmt: skip
            self.message_user(request, text % restored, messages.SUCCESS)


def _name(replica_id: str) -> str:
    peer = Peer.objects.filter(replica_id=replica_id).exclude(name="").first() if replica_id else None
    return f"{peer.name} ({replica_id[:8]})" if peer is not None else replica_id[:8]
