"""The host project: what developers of a project that replicates do every day has to work as before."""
