-- The roles of one database server. The cluster's operator runs this once, as the superuser, in the service's database.
-- The superuser then only creates and drops the databases of extension services.

-- The service owns its database, and nothing else. Its metrics show how far the relay has read, which is a statistic.
GRANT pg_read_all_stats TO "${SERVICE}";
ALTER DATABASE "${SERVICE}" OWNER TO "${SERVICE}";

-- Debezium reads the publication through its slot. It has no right to any table.
CREATE ROLE relay LOGIN REPLICATION;

-- `look.db.rows`, the views and the watcher read.
CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats;
ALTER ROLE reader SET default_transaction_read_only = on;
ALTER ROLE reader SET statement_timeout = '15s';

-- `lab` and the lessons: the service's rights, and slots, sessions, checkpoints and the limit of the retained log.
CREATE ROLE operator LOGIN REPLICATION
    IN ROLE "${SERVICE}", pg_monitor, pg_signal_backend, pg_checkpoint;
GRANT ALTER SYSTEM ON PARAMETER max_slot_wal_keep_size TO operator;
GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_reload_conf() TO operator;

REVOKE ALL ON DATABASE "${SERVICE}", postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE "${SERVICE}" TO relay, reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "${SERVICE}", operator GRANT SELECT ON TABLES TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "${SERVICE}", operator GRANT SELECT ON SEQUENCES TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "${SERVICE}", operator GRANT USAGE ON SCHEMAS TO reader;

-- Everyone may call these functions otherwise, and they write: large objects, or to the log.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea),
    lo_unlink(oid) FROM PUBLIC;
DO $do$
DECLARE
    emit regprocedure;  -- it has another parameter from PostgreSQL 17 on
BEGIN
    FOR emit IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', emit);
        IF emit::text LIKE '%(boolean,text,text%' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO relay, operator', emit);
        END IF;
    END LOOP;
END $do$;


-- A standby synchronizes its slots through this database, as the role streaming_replica.
GRANT CONNECT ON DATABASE postgres TO PUBLIC;
