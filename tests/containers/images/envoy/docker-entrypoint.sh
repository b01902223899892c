#!/bin/sh
# As in the official image, arguments that start with a dash are Envoy's options, and Envoy does not run as root.
set -e
if [ "${1#-}" != "$1" ]; then
    set -- envoy "$@"
fi
if [ "$(id -u)" = 0 ]; then
    chown envoy: /dev/stdout /dev/stderr || true
    exec setpriv --reuid=envoy --regid=envoy --clear-groups "$@"
fi
exec "$@"
