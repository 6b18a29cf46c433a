"""Others' replication on the same machine with the same rows: what ours is compared with."""
