"""What replication costs, measured beside RxDB, Morango and the limits of the machine: ``make bench``.

Nothing here decides a test. Each part is a module of ``benchmarks.parts``; what it measures is a ``Figure``.
"""
