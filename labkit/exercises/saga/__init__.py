"""The exercises on orders, outbox, compensations and duplicates."""
