"""``python -m demo_project --check``: the whole way from a write on one node to a row on the other, measured."""
