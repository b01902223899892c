"""Events between services: outbox, inbox, consumer, parking and dead letters."""
