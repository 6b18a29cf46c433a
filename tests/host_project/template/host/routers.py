"""Routers that a project may have, named by HOST_ROUTERS."""


class OnOther:
    """One app lies in the database ``other``, everything else in the default one."""

    app = ""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == self.app else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (app_label == self.app) == (db == "other")


class SessionsOnOther(OnOther):
    app = "sessions"


class LegacyOnOther(OnOther):
    app = "legacy"


class ReplicationOnOther(OnOther):
    app = "p2p_replication"


class ReadReplica:
    """Everything is read from a copy of the database; here one that has no tables at all, so far is it behind."""

    def db_for_read(self, model, **hints):
        return "reader"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db != "reader"
