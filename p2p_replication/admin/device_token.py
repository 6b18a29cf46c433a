"""Device tokens: made here (the secret is shown once), listed and revoked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from p2p_replication.models.signaling import DeviceToken
from p2p_replication.signaling.tokens import create_token, revoke_token


class NewTokenForm(forms.ModelForm):
    class Meta:
        model = DeviceToken
        fields = ["user", "name"]

    def clean_user(self) -> Any:
        user = self.cleaned_data["user"]
        if not getattr(user, "is_active", True):
            raise forms.ValidationError(_("This user is deactivated; the token would let nobody in."))
        return user


@admin.register(DeviceToken)
class DeviceTokenAdmin(admin.ModelAdmin):
    form = NewTokenForm
    list_display = ["name", "user", "created_at", "last_used_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["name"]
    raw_id_fields = ["user"]
    actions = ["revoke_selected"]

    def get_fields(self, request: HttpRequest, obj: DeviceToken | None = None) -> Any:
        shown = ["user", "name"]
        return shown if obj is None else [*shown, "created_at", "last_used_at", "revoked_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: DeviceToken | None = None) -> Any:
        return [] if obj is None else self.get_fields(request, obj)

    def save_model(self, request: HttpRequest, obj: DeviceToken, form: Any, change: bool) -> None:
        if change:
            # Every field is read-only: there is nothing to save.
            return
        token, secret = create_token(obj.user, obj.name)
        obj.pk = token.pk
        obj._state.adding = False
        obj.new_secret = secret  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: DeviceToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        # In this very answer, and nowhere else: a message would put the secret into a cookie or the session.
        context = {
            **self.admin_site.each_context(request),
            "title": _t("The new token's secret"),
            "opts": self.opts,
            "token": obj,
            "secret": obj.new_secret,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/p2p_replication/devicetoken/created.html", context)

    @admin.action(permissions=["change"], description=_("Revoke selected device tokens"))
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[DeviceToken]) -> None:
        tokens = list(queryset.filter(revoked_at=None))
        for token in tokens:
            revoke_token(token)
            self.log_change(request, token, "Revoked.")
        text = ngettext("%d token is revoked.", "%d tokens are revoked.", len(tokens)) % len(tokens)
        self.message_user(request, text, messages.SUCCESS if tokens else messages.WARNING)
