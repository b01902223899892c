"""Four services that process an order in a choreographed saga.

Read them in this order: ``messaging/outbox.py`` and ``messaging/inbox.py`` (the two patterns),
``messaging/handling.py`` (the transaction that combines them), then one of ``order``, ``inventory``, ``payment`` and
``shipping``. These have the same structure: ``tables.py`` → ``domain.py`` → ``handlers.py`` → ``api.py``.
"""
