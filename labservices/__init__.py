"""Four services that carry one order through a choreographed saga.

Read them in this order: ``shared/outbox.py`` and ``shared/inbox.py`` (the two patterns), ``shared/handling.py`` (the
transaction in which both meet), then any one of ``order``, ``inventory``, ``payment``, ``shipping``: they have the same
shape, ``tables.py`` → ``domain.py`` → ``handlers.py`` → ``api.py``.
"""
