"""Pools: a list, and a page for each that keeps itself up to date."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from p2p_replication.admin.pool_page import page_context
from p2p_replication.admin.status import pool_status
from p2p_replication.models.pool import Declaration, Peer, PeerState, Pool, PoolError

TEMPLATES = "admin/p2p_replication/pool"
#: How often an open page asks for news, in milliseconds.
REFRESH = 2_000


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin):
    list_display = ["topic", "account", "status", "connected_peers", "model_count", "error_count", "created_at"]
    search_fields = ["topic", "account"]
    actions = ["restart_selected", "cancel_selected"]

    class Media:
        css = {"all": ["p2p_replication/admin/p2p.css"]}

    # -- the list ------------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pool]:
        connected = Peer.objects.filter(state=PeerState.CONNECTED)
        pools: QuerySet[Pool] = super().get_queryset(request)
        return pools.annotate(
            connected_count=_count(connected),
            declaration_count=_count(Declaration.objects.all()),
            errors_total=_count(PoolError.objects.all()),
        )

    @admin.display(description=_("state"))
    def status(self, pool: Pool) -> SafeString:
        return pool_status(pool).as_pill()

    @admin.display(description=_("connected peers"))
    def connected_peers(self, pool: Pool) -> int:
        return pool.connected_count if pool.has_live_worker else 0  # type: ignore[attr-defined,no-any-return]

    @admin.display(description=_("models"))
    def model_count(self, pool: Pool) -> int:
        return pool.declaration_count  # type: ignore[attr-defined,no-any-return]

    @admin.display(description=_("errors"))
    def error_count(self, pool: Pool) -> int:
        return pool.errors_total  # type: ignore[attr-defined,no-any-return]

    # -- the page ------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<path:object_id>/live/", wrap(self.live_view), name="p2p_replication_pool_live"),
            path("<path:object_id>/cancel/", wrap(self.cancel_view), name="p2p_replication_pool_cancel"),
            path("<path:object_id>/restart/", wrap(self.restart_view), name="p2p_replication_pool_restart"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the pool. Nothing is edited here: options come from ``sync_p2p()`` or a ``p2p.py`` module."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        pool = self._pool(request, object_id)
        context = {
            **self._context(request, str(pool)),
            **page_context(pool),
            "subtitle": None,
            "original": pool,
            "refresh": REFRESH,
            "may_change": self.has_change_permission(request, pool),
            "may_delete": self.has_delete_permission(request, pool),
            **(extra_context or {}),
        }
        return TemplateResponse(request, f"{TEMPLATES}/page.html", context)

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that changes."""
        pool = self._pool(request, object_id)
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(request, f"{TEMPLATES}/live.html", page_context(pool))

    def _pool(self, request: HttpRequest, object_id: str) -> Pool:
        pool: Pool | None = self.get_object(request, unquote(object_id))
        if pool is None:
            raise Http404(_t("There is no such pool."))
        if not self.has_view_or_change_permission(request, pool):
            raise PermissionDenied
        return pool

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "media": self.media}

    # -- cancel and restart --------------------------------------------------------------------------------------------

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        pool = self._pool_to_change(request, object_id)
        if "confirmed" not in request.POST:
            return self._confirm_cancel(request, [pool], to="")
        self._cancel(request, [pool])
        return self._back(pool)

    def restart_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        pool = self._pool_to_change(request, object_id)
        self._restart(request, [pool])
        return self._back(pool)

    @admin.action(permissions=["change"], description=_("Restart selected pools"))
    def restart_selected(self, request: HttpRequest, queryset: QuerySet[Pool]) -> None:
        self._restart(request, list(queryset))

    @admin.action(permissions=["change"], description=_("Cancel selected pools"))
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Pool]) -> HttpResponse | None:
        pools = list(queryset)
        if "confirmed" not in request.POST:
            return self._confirm_cancel(request, pools, to="cancel_selected")
        self._cancel(request, pools)
        return None

    def _pool_to_change(self, request: HttpRequest, object_id: str) -> Pool:
        pool = self._pool(request, object_id)
        if not self.has_change_permission(request, pool):
            raise PermissionDenied
        return pool

    def _confirm_cancel(self, request: HttpRequest, pools: list[Pool], to: str) -> HttpResponse:
        """Ask first; ``to`` is the list's action that the answer goes to."""
        context = {
            **self._context(request, _t("Cancel replication?")),
            "pools": pools,
            "action": to,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, f"{TEMPLATES}/cancel.html", context)

    def _cancel(self, request: HttpRequest, pools: list[Pool]) -> None:
        for pool in pools:
            if pool.cancelled_at is not None:
                self.message_user(request, _t("%s was cancelled already.") % pool, messages.WARNING)
                continue
            by_code = pool.declarations.exclude(source="call").values_list("source", flat=True).first()
            pool.cancel()
            self.log_change(request, pool, "Cancelled.")
            self.message_user(request, _t("%s is cancelled; the rows stay where they are.") % pool, messages.SUCCESS)
            if by_code:
                text = _t("%(source)s declares it: it comes back with the worker's next start.")
                self.message_user(request, text % {"source": by_code}, messages.WARNING)

    def _restart(self, request: HttpRequest, pools: list[Pool]) -> None:
        for pool in pools:
            if pool.cancelled_at is not None:
                text = _t("%s is cancelled: declare it again with sync_p2p().")
                self.message_user(request, text % pool, messages.ERROR)
                continue
            pool.restart()
            self.log_change(request, pool, "Restarted.")
            text = _t("%s is restarted.") if pool.has_live_worker else _t("%s restarts as soon as a worker runs.")
            self.message_user(request, text % pool, messages.SUCCESS)

    def _back(self, pool: Pool) -> HttpResponse:
        url = reverse("admin:p2p_replication_pool_change", args=[pool.pk], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)

    # -- add and delete ------------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Pool | None = None) -> bool:
        """A pool is cancelled first; it can be deleted when the worker has left it."""
        return super().has_delete_permission(request, obj) and (obj is None or _is_over(obj))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        pools = list(objs)
        to_delete, counts, needed, protected = super().get_deleted_objects(pools, request)
        # What replication wrote down of a pool goes with it: nobody has a permission for that by itself.
        needed = set(needed) - {model._meta.verbose_name for model in (Peer, PoolError)}
        if super().has_delete_permission(request):
            # It is not the person who lacks something.
            needed.discard(Pool._meta.verbose_name)
        running = [_t("%s: cancel it first") % pool for pool in pools if not _is_over(pool)]
        return to_delete, counts, needed, [*protected, *running]


def _is_over(pool: Pool) -> bool:
    return pool.cancelled_at is not None and not pool.has_live_worker


def _count(rows: QuerySet[Any]) -> Coalesce:
    """Count a pool's rows by themselves: joins of several tables would multiply them."""
    counted = rows.filter(pool=OuterRef("pk")).order_by().values("pool").annotate(total=Count("pk")).values("total")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
