#!/bin/sh
# One busted file: run_spec.sh OUT LUA FILE LABEL [ENGINE]. Writes OUT.log and OUT.counts ("pass N", "fail NAME",
# "skip N NAME"). Wants ROOT and BUILD in the environment, as ./dev sets them. Several may run at the same time.
set -u
out=$1 lua=$2 file=$3 label=$4
[ "$label" != - ] || label=
# shellcheck source=tools/ui.sh
. "$ROOT/tools/ui.sh"
# shellcheck source=tools/setup.sh
. "$ROOT/tools/setup.sh"
lua_env "$lua"
[ -z "${SPEC_CPATH:-}" ] || LUA_CPATH=$SPEC_CPATH
if [ $# -ge 5 ]; then
    TIDEMILL_CONFORMANCE=$5
    export TIDEMILL_CONFORMANCE
fi
name="$label$(basename "$file")"
echo "== $name on $TIDEMILL_LUA" >"$out.log"
start=$(date +%s)
if ! busted=$(command -v busted); then
    echo "fail $name: busted is not installed" >"$out.counts"
    exit
fi
# --foreground: an interrupt at the terminal reaches the spec. Debian's busted is a Lua script, LuaRocks' one a shell
# script around it.
if head -n 1 "$busted" | grep -q lua; then
    LD_PRELOAD="${SPEC_PRELOAD:-}" timeout --foreground -k 10 "${SPEC_TIMEOUT:-1200}" "$TIDEMILL_LUA" "$busted" \
        -o TAP "$file" >"$out.tap" 2>&1 </dev/null
else
    LD_PRELOAD="${SPEC_PRELOAD:-}" timeout --foreground -k 10 "${SPEC_TIMEOUT:-1200}" busted \
        --lua="$(command -v "$TIDEMILL_LUA")" -o TAP "$file" >"$out.tap" 2>&1 </dev/null
fi
status=$?
cat "$out.tap" >>"$out.log"
echo "== $(($(date +%s) - start)) s" >>"$out.log"
awk -v name="$name" -v status=$status -f "$ROOT/tools/count_tap.awk" "$out.tap" >"$out.counts"
rm -f "$out.tap"
