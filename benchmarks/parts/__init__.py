"""The parts of ``make bench``. Each has ``run(runs: int) -> list[Figure]``."""
