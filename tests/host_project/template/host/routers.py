"""Routers that a project may have, named by HOST_ROUTERS."""


class CatalogOnOther:
    """The catalog lies in a database of its own, everything else in the default one."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "catalog" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (app_label == "catalog") == (db == "other")


class SessionsOnOther:
    """Only what does not replicate lies in the other database."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "sessions" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (app_label == "sessions") == (db == "other")


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
