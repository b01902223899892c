#!/bin/bash
# What Debezium's image does at its start: each variable CONNECT_SOME_NAME becomes the property some.name of the worker.
set -euo pipefail
[[ ${1:-} == start ]] || exec "$@"
: "${GROUP_ID:=1}" "${BOOTSTRAP_SERVERS:=0.0.0.0:9092}"
: "${KEY_CONVERTER:=org.apache.kafka.connect.json.JsonConverter}" "${VALUE_CONVERTER:=org.apache.kafka.connect.json.JsonConverter}"
: "${OFFSET_FLUSH_INTERVAL_MS:=60000}" "${OFFSET_FLUSH_TIMEOUT_MS:=5000}" "${TASK_SHUTDOWN_GRACEFUL_TIMEOUT_MS:=10000}"
for needed in CONFIG_STORAGE_TOPIC OFFSET_STORAGE_TOPIC STATUS_STORAGE_TOPIC; do
    if [[ -z ${!needed:-} ]]; then
        echo "The $needed variable must be set to the name of a topic" >&2
        exit 1
    fi
done
for own in GROUP_ID BOOTSTRAP_SERVERS CONFIG_STORAGE_TOPIC OFFSET_STORAGE_TOPIC STATUS_STORAGE_TOPIC KEY_CONVERTER VALUE_CONVERTER \
    OFFSET_FLUSH_INTERVAL_MS OFFSET_FLUSH_TIMEOUT_MS TASK_SHUTDOWN_GRACEFUL_TIMEOUT_MS; do
    export "CONNECT_$own=${!own}"
done
file=$KAFKA_HOME/config/connect-distributed.properties
: >"$file"
while IFS='=' read -r name value; do
    [[ $name == CONNECT_* ]] || continue
    name=${name#CONNECT_}
    name=${name,,}
    printf '%s=%s\n' "${name//_/.}" "$value" >>"$file"
done < <(env)
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:-${HEAP_OPTS:--Xms256M -Xmx2G}} ${KAFKA_JVM_PERFORMANCE_OPTS:--server} ${KAFKA_OPTS:-} \
    -Dlog4j2.configurationFile="$KAFKA_HOME/config/log4j2.yaml" -cp "$KAFKA_HOME/libs/*" \
    org.apache.kafka.connect.cli.ConnectDistributed "$file"
