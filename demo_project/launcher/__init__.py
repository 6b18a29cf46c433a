"""Starts the demo's two nodes, shows their pool, and stops them."""
