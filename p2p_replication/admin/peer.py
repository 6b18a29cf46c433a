"""Peers: what is known of each. One whose key was really renewed is deleted here, and comes back with the new one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from p2p_replication.admin.status import peer_status
from p2p_replication.models.pool import Peer


@admin.register(Peer)
class PeerAdmin(admin.ModelAdmin):
    list_display = ["__str__", "pool", "user", "status", "last_seen", "rows_in", "rows_out", "last_error"]
    list_filter = ["pool"]
    list_select_related = ["pool"]
    search_fields = ["name", "user", "replica_id"]
    fields = [
        "name", "pool", "user", "replica_id", "public_key", "status", "last_seen",
        "rows_in", "rows_out", "bytes_in", "bytes_out", "last_error",
    ]  # fmt: skip

    class Media:
        css = {"all": ["p2p_replication/admin/p2p.css"]}

    @admin.display(description=_("state"))
    def status(self, peer: Peer) -> SafeString:
        return peer_status(peer, peer.pool.has_live_worker).as_pill()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
