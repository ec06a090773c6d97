#!/bin/sh
# Installs into a throwaway prefix and uses the result as others would: pkg-config, CMake, both Luas, the command,
# LuaRocks. Prints TAP. Wants ROOT and BUILD in the environment (./dev sets them) and a finished build.
set -u
prefix=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-install.XXXXXX") || exit 1
trap 'rm -rf "$prefix"' EXIT
cd "$prefix" || exit 1
unset LUA_PATH LUA_CPATH LUA_PATH_5_4 LUA_CPATH_5_4 LUA_INIT
count=0
failed=0
try() { # NAME COMMAND…
    try_name=$1
    shift
    count=$((count + 1))
    if "$@" >"$prefix/out" 2>&1; then echo "ok $count - $try_name"; else
        failed=1
        echo "not ok $count - $try_name"
    fi
    sed 's/^/# /' "$prefix/out"
}
skip() {
    count=$((count + 1))
    echo "ok $count - # SKIP $1"
}

usr=$prefix/usr
try 'cmake --install' cmake --install "$BUILD" --prefix "$usr"
libdir=$(dirname "$(find "$usr" -name libtidemill.a)")
PKG_CONFIG_PATH=$libdir/pkgconfig
LD_LIBRARY_PATH=$libdir
export PKG_CONFIG_PATH LD_LIBRARY_PATH
source=$ROOT/tools/install_check

with_pkg_config() {
    # shellcheck disable=SC2046
    cc -std=c99 -Wall -Wextra -Wpedantic -Werror "$source/main.c" -o "$prefix/shared" $(pkg-config --cflags --libs tidemill) &&
        "$prefix/shared"
}
with_pkg_config_static() {
    # shellcheck disable=SC2046
    cc -std=c11 "$source/main.c" -o "$prefix/static" $(pkg-config --cflags tidemill) "$libdir/libtidemill.a" \
        $(pkg-config --static --libs tidemill | sed 's/-ltidemill//') && "$prefix/static"
}
with_cmake() {
    cmake -S "$source" -B "$prefix/consumer" -DCMAKE_PREFIX_PATH="$usr" && cmake --build "$prefix/consumer" &&
        "$prefix/consumer/with_shared" && "$prefix/consumer/with_static"
}
try 'a C program by pkg-config' with_pkg_config
try 'a C program by pkg-config, static' with_pkg_config_static
try 'a C program by find_package, shared and static' with_cmake

each_header() {
    for header in "$usr"/include/tidemill/*.h; do
        printf '#include <tidemill/%s>\nint main(void) { return 0; }\n' "$(basename "$header")" |
            cc -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$usr/include" -x c - || return 1
    done
}
try 'each installed header stands alone' each_header
if command -v c++ >/dev/null 2>&1; then
    as_cxx() {
        cp "$source/main.c" "$prefix/main.cc"
        c++ -std=c++20 -Wall -Wextra -Wpedantic -Wno-missing-field-initializers -Werror -I "$usr/include" \
            "$prefix/main.cc" -o "$prefix/cxx" -L "$libdir" -ltidemill && "$prefix/cxx"
    }
    try 'a C++ program' as_cxx
fi
no_private_symbols() {
    ! nm -D --defined-only "$libdir/libtidemill.so" | awk '{ print $3 }' | grep -v '^tide_[a-z]' | grep .
}
try 'the shared library exports public names only' no_private_symbols

only_entry() {
    [ "$(nm -D --defined-only "$usr/lib/lua/5.4/tidemill/core.so" | awk '{ print $3 }')" = luaopen_tidemill_core ]
}
try 'the Lua module exports its entry only' only_entry
lua_round_trip() { # LUA VERSION PREFIX
    LUA_PATH="$3/share/lua/$2/?.lua;$3/share/lua/$2/?/init.lua;;" LUA_CPATH="$3/lib/lua/$2/?.so;;" "$1" -e '
        local tidemill = require "tidemill"
        local bus = tidemill.open("memory:")
        local topic, got = bus:topic("t"), nil
        topic:on("A", { group = "g" }, function(event) got = event.data.n end)
        assert(topic:publish { type = "A", data = { n = 7 } })
        for _ = 1, 200 do
          if got then break end
          bus:tick(0.02, { wait = true })
        end
        assert(got == 7, "the event did not come back")'
}
try 'installed Lua module, Lua 5.4' lua_round_trip lua5.4 5.4 "$usr"
try 'installed Lua module, LuaJIT' lua_round_trip luajit 5.1 "$usr"
try 'the installed command' "$usr/bin/tidemill" version

# LuaRocks, offline, in a copy: it leaves objects behind.
if ! command -v luarocks >/dev/null 2>&1; then
    skip 'luarocks is not installed'
else
    copy=$prefix/copy
    mkdir -p "$copy"
    (cd "$ROOT" && tar -cf - --exclude=./build --exclude='./build-*' --exclude=./.git .) | tar -xf - -C "$copy"
    rock() { # LUA VERSION INCDIR
        printf 'rocks_provided = { ["lua-cjson"] = "2.1.0-1", argparse = "0.7.1-1" }\nrocks_servers = {}\nlua_interpreter = "%s"\n' \
            "$1" >"$prefix/rocks.lua"
        (cd "$copy" && rm -rf build.luarocks && LUAROCKS_CONFIG="$prefix/rocks.lua" luarocks --lua-version "$2" \
            --tree "$prefix/rocks-$1" make rockspec/tidemill-scm-1.rockspec LUA_INCDIR="$3") &&
            lua_round_trip "$1" "$2" "$prefix/rocks-$1" && "$prefix/rocks-$1/bin/tidemill" version
    }
    try 'luarocks make, Lua 5.4' rock lua5.4 5.4 "$(pkg-config --variable=includedir lua5.4)/lua5.4"
    try 'luarocks make, LuaJIT' rock luajit 5.1 "$(pkg-config --variable=includedir luajit)"
fi
echo "1..$count"
exit $failed
