#!/bin/bash
# Behave as the official image: initialize an empty data folder as a cluster with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, using
# a server with the same flags that accepts no TCP connections, and run the scripts in /docker-entrypoint-initdb.d. Then run the server as the user postgres.
set -euo pipefail
[[ ${1:-} == -* ]] && set -- postgres "$@"
if [[ $1 == postgres && $(id -u) == 0 ]]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [[ $1 == postgres && ! -s $PGDATA/PG_VERSION ]]; then
    if [[ -z ${POSTGRES_PASSWORD:-} ]]; then
        echo "Error: Database is uninitialized and superuser password is not specified (POSTGRES_PASSWORD)." >&2
        exit 1
    fi
    user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
    # shellcheck disable=SC2086
    initdb -D "$PGDATA" -U "$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS:-}
    printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    flags=$(printf '%q ' "${@:2}")
    PGPASSWORD=$POSTGRES_PASSWORD
    export PGPASSWORD
    pg_ctl -D "$PGDATA" -o "$flags -c listen_addresses=''" -w start
    [[ $database == postgres ]] || psql --no-psqlrc -v ON_ERROR_STOP=1 -h /var/run/postgresql -U "$user" -d postgres \
        -c "CREATE DATABASE \"$database\""
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [[ ! -e $script ]] || psql --no-psqlrc -v ON_ERROR_STOP=1 -h /var/run/postgresql -U "$user" -d "$database" -f "$script"
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
fi
exec "$@"
