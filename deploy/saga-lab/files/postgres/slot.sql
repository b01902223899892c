-- The relay's position in the log. It exists before the first event, so that the relay misses none.
SELECT pg_create_logical_replication_slot('outbox', 'pgoutput', failover => true)
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'outbox');
