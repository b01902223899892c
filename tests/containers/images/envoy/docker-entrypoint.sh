#!/bin/sh
# As the official image's: what begins with a dash are Envoy's options; Envoy itself does not run as root.
set -e
if [ "${1#-}" != "$1" ]; then
    set -- envoy "$@"
fi
if [ "$(id -u)" = 0 ]; then
    chown envoy: /dev/stdout /dev/stderr || true
    exec setpriv --reuid=envoy --regid=envoy --clear-groups "$@"
fi
exec "$@"
