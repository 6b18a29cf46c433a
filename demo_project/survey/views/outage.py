"""Taking a node off the net, and bringing it back, to see what happens to edits that don't know of each other."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST


@require_POST
def outage(request: HttpRequest) -> HttpResponse:
    """Begin or end this node's outage: ``python -m demo_project`` stops or starts the worker."""
    if settings.OUTAGE_FILE.exists():
        settings.OUTAGE_FILE.unlink(missing_ok=True)
        messages.info(request, "Back on the net: the worker starts, and what both nodes have written meets.")
    else:
        settings.OUTAGE_FILE.touch()
        messages.info(
            request, "Off the net: the worker stops. Everything here goes on; write on both nodes, then come back."
        )
    return redirect("places")
