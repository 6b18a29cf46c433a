"""What went wrong in pools. Kept for ``ERROR_RETENTION`` days."""

from __future__ import annotations

from django.contrib import admin

from p2p_replication.admin.read_only import ReadOnlyAdmin
from p2p_replication.models.pool import PoolError


@admin.register(PoolError)
class PoolErrorAdmin(ReadOnlyAdmin):
    list_display = ["at", "pool", "text", "count", "replica_id"]
    list_filter = ["pool"]
    list_select_related = ["pool"]
    search_fields = ["text", "replica_id"]
    date_hierarchy = "at"
