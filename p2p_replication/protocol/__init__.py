"""The replication protocol, pure: no Django, no asyncio, no clock and no randomness of its own."""
