"""Signing in by link."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from demo_project.survey.sign_in import user_of_ticket


@login_not_required
def enter(request: HttpRequest) -> HttpResponse:
    """Sign the visitor in by ``?ticket=``; whoever is signed in already just goes on."""
    if request.user.is_authenticated:
        return redirect("places")
    ticket = request.GET.get("ticket", "")
    user = user_of_ticket(ticket) if ticket else None
    if user is None:
        return render(request, "survey/enter.html", {"ticket": ticket}, status=403)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("places")
