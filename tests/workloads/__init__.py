"""What an application writes, by chance: for random histories of databases. One subject a module, ``write`` in each."""
