"""System checks. An id is never given to another meaning: projects name them in ``SILENCED_SYSTEM_CHECKS``.

========  ==============================================================================
E001      ``P2P_REPLICATION`` is no dict, or has a key that means nothing
E002      a setting has the wrong type or shape
E003      the ``BACKEND`` of a connection handler can't be used
E004      ``ROOM_AUTHORIZER`` or ``SIGNALING_LIMITS`` can't be used
E005      a pool that the code declares can't work
W001      an account that a declared pool uses has no ``SIGNALING_URL``
E010      a primary key that can't identify a row everywhere
E011      multi-table inheritance from a model that does not replicate
E012      a field of a kind that can't travel
E013      a foreign key to a model that neither replicates nor has natural keys
E014      declared merges
E015      an excluded field without which no row can be inserted
E016      the key is excluded
E017      a table's name that has quotes in it
E018      options on a proxy model
E019      ``key`` names a field that can be no key
W010      a many-to-many field whose rows could replicate, and stay here
I010      a many-to-many field to a model that does not replicate
W011      a generic foreign key that keeps ids as numbers
W012      a file field
W013      a generic foreign key, beside models whose primary keys are local numbers
W015      a table that does not replicate and refers to rows which may have to leave their table
E020      a model in a database that replication can't run on
E021      a model in another database than the default one
E022      replication's own tables in another database than the default one
E023      a foreign key to a local number that the database does not enforce
W020      SQLite's options
W021      capture triggers are missing or different, or a gap is open (``check --database``)
W022      a model whose table is a view (``check --database``)
========  ==============================================================================
"""

from p2p_replication.checks import databases, keys, merges, models, pools, settings

__all__ = ["databases", "keys", "merges", "models", "pools", "settings"]
