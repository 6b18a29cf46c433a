"""The demo: two nodes with a database each, which share a field survey."""
