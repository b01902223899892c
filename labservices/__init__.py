"""Four services that process an order in a choreographed saga.

Read them in this order: ``shared/outbox.py`` and ``shared/inbox.py`` (the two patterns), ``shared/handling.py`` (the
transaction that combines them), then one of ``order``, ``inventory``, ``payment`` and ``shipping``. These have the same
structure: ``tables.py`` → ``domain.py`` → ``handlers.py`` → ``api.py``.
"""
