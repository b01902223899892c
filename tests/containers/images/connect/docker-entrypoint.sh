#!/bin/bash
# Start as Debezium's image does: some properties of the worker have separate environment variables and defaults, and each environment
# variable CONNECT_SOME_NAME sets the property some.name.
set -euo pipefail
[[ ${1:-} == start ]] || exec "$@"
for needed in CONFIG_STORAGE_TOPIC OFFSET_STORAGE_TOPIC STATUS_STORAGE_TOPIC; do
    if [[ -z ${!needed:-} ]]; then
        echo "The $needed variable must be set to the name of a topic" >&2
        exit 1
    fi
done
export CONNECT_BOOTSTRAP_SERVERS=${BOOTSTRAP_SERVERS:-0.0.0.0:9092}
export CONNECT_GROUP_ID=${GROUP_ID:-1}
export CONNECT_CONFIG_STORAGE_TOPIC=$CONFIG_STORAGE_TOPIC
export CONNECT_OFFSET_STORAGE_TOPIC=$OFFSET_STORAGE_TOPIC
export CONNECT_STATUS_STORAGE_TOPIC=$STATUS_STORAGE_TOPIC
export CONNECT_KEY_CONVERTER=${KEY_CONVERTER:-org.apache.kafka.connect.json.JsonConverter}
export CONNECT_VALUE_CONVERTER=${VALUE_CONVERTER:-org.apache.kafka.connect.json.JsonConverter}
export CONNECT_OFFSET_FLUSH_INTERVAL_MS=${OFFSET_FLUSH_INTERVAL_MS:-60000}
export CONNECT_OFFSET_FLUSH_TIMEOUT_MS=${OFFSET_FLUSH_TIMEOUT_MS:-5000}
export CONNECT_TASK_SHUTDOWN_GRACEFUL_TIMEOUT_MS=${SHUTDOWN_TIMEOUT:-10000}
export CONNECT_REST_ADVERTISED_HOST_NAME=${ADVERTISED_HOST_NAME:-$(hostname -i)}
export CONNECT_REST_ADVERTISED_PORT=${ADVERTISED_PORT:-8083}
export CONNECT_REST_HOST_NAME=${REST_HOST_NAME:-$(hostname -i)}
export CONNECT_REST_PORT=${REST_PORT:-8083}
file=$KAFKA_HOME/config/connect-distributed.properties
: >"$file"
while IFS='=' read -r name value; do
    [[ $name == CONNECT_* ]] || continue
    name=${name#CONNECT_}
    name=${name,,}
    printf '%s=%s\n' "${name//_/.}" "$value" >>"$file"
done < <(env)
class_path=$(printf ':%s' "$KAFKA_HOME"/libs/*.jar)
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:-${HEAP_OPTS:--Xms256M -Xmx2G}} ${KAFKA_JVM_PERFORMANCE_OPTS:--server} ${KAFKA_OPTS:-} \
    -Dlog4j2.configurationFile="$KAFKA_HOME/config/log4j2.yaml" -cp "${class_path:1}" \
    org.apache.kafka.connect.cli.ConnectDistributed "$file"
