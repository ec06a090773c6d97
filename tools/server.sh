# A throwaway server on loopback: server_start valkey|redis, server_stop. Sourced by ./dev. What TIDEMILL_VALKEY_SERVER and
# TIDEMILL_REDIS_SERVER name is started, else what is installed.
# shellcheck shell=sh
# Sets SERVER_URL, SERVER_PORT, SERVER_PID, SERVER_NAME, SERVER_VERSION. One at a time; stopped by its pid, also
# when the shell ends.

SERVER_PID=

server_start() {
    server_kind=$1
    case $server_kind in
    valkey) set -- "${TIDEMILL_VALKEY_SERVER:-valkey-server}" "${TIDEMILL_REDIS_SERVER:-redis-server}" ;;
    *) set -- "${TIDEMILL_REDIS_SERVER:-redis-server}" "${TIDEMILL_VALKEY_SERVER:-valkey-server}" ;;
    esac
    server_binary=
    for candidate in "$@"; do
        if command -v "$candidate" >/dev/null 2>&1; then
            server_binary=$candidate
            break
        fi
    done
    [ -n "$server_binary" ] || { say_error "no $server_kind server is installed (./dev setup demo-valkey)"; return 1; }
    SERVER_NAME=$("$server_binary" --version | sed -n 's/ server v=.*//p' | tr '[:upper:]' '[:lower:]')
    SERVER_VERSION=$("$server_binary" --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')
    SERVER_DIR=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-server.XXXXXX") || return 1
    trap server_stop EXIT
    trap 'server_stop; exit 130' INT TERM HUP
    attempt=0
    while [ $attempt -lt 20 ]; do
        attempt=$((attempt + 1))
        SERVER_PORT=$(awk -v seed="$$$attempt" -v t="$(date +%s)" 'BEGIN { srand(seed + t); print 20000 + int(rand() * 12000) }')
        : >"$SERVER_DIR/log"
        "$server_binary" --bind 127.0.0.1 --port "$SERVER_PORT" --dir "$SERVER_DIR" --save '' --appendonly no \
            --logfile "$SERVER_DIR/log" --daemonize no </dev/null >/dev/null 2>&1 &
        SERVER_PID=$!
        waited=0
        while [ $waited -lt 100 ]; do
            if grep -q 'Ready to accept connections' "$SERVER_DIR/log" 2>/dev/null; then
                SERVER_URL=redis://127.0.0.1:$SERVER_PORT
                [ "$SERVER_NAME" = valkey ] && SERVER_URL=valkey://127.0.0.1:$SERVER_PORT
                return 0
            fi
            kill -0 "$SERVER_PID" 2>/dev/null || break # the port was taken
            sleep 0.1 2>/dev/null || sleep 1
            waited=$((waited + 1))
        done
        kill "$SERVER_PID" 2>/dev/null
        wait "$SERVER_PID" 2>/dev/null
    done
    say_error "$server_binary did not start; the end of its log:"
    tail -n 5 "$SERVER_DIR/log" >&2
    server_stop
    return 1
}

server_stop() {
    if [ -n "$SERVER_PID" ]; then
        kill "$SERVER_PID" 2>/dev/null
        wait "$SERVER_PID" 2>/dev/null
        SERVER_PID=
        rm -rf "$SERVER_DIR"
        trap - EXIT INT TERM HUP
    fi
}
