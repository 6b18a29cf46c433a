from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class P2PReplicationConfig(AppConfig):
    name = "p2p_replication"
    verbose_name = _("Peer-to-peer replication")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from p2p_replication import checks  # noqa: F401
        from p2p_replication.models.conflict import Conflict
        from p2p_replication.registry import registry
        from p2p_replication.storage.capture import installation
        from p2p_replication.storage.conflict_log import restore

        registry.autodiscover()
        Conflict.restorer = staticmethod(restore)
        installation.connect_migration_signals()
