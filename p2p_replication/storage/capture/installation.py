def connect_migration_signals() -> None:
    pass
