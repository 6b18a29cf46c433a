"""The checks of one model, with options as its ``Replication`` class would give them."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models

from p2p_replication.checks.models import check_model
from p2p_replication.registry import Options


def check(model: type[models.Model], **options: Any) -> list[CheckMessage]:
    return list(check_model(Options(model=model, source="app.models.X.Replication", **options)))
