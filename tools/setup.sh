# What each command needs, and how it gets there. Sourced by ./dev.
# shellcheck shell=sh
#
# A requirement is PROBE=PACKAGE. Probes: cmd:NAME a command; hdr:FILE a C header; pc:MODULE a pkg-config module;
# lua:MODULE a module of Lua 5.4; fuzzer: clang's libFuzzer. A probe that holds installs nothing, so another
# package with the same content (luajit2 for luajit, a compiler of one's own) is as good.

NEED_LUA='cmd:lua5.4=lua5.4'
NEED_BUILD="cmd:cc=gcc hdr:stdio.h=libc6-dev cmd:cmake=cmake cmd:make=make cmd:pkg-config=pkg-config
    pc:hiredis=libhiredis-dev pc:sqlite3=libsqlite3-dev pc:openssl=libssl-dev
    pc:lua5.4=liblua5.4-dev $NEED_LUA lua:cjson=lua-cjson lua:argparse=lua-argparse"
NEED_NPM='cmd:npm=npm'
NEED_ANY_SERVER='server:valkey=valkey-server'
NEED_SERVERS='cmd:redis-server=redis-server cmd:valkey-server=valkey-server'
NEED_JIT='cmd:luajit=luajit pc:luajit=libluajit-5.1-dev'
NEED_LINT="$NEED_LUA cmd:clang-format=clang-format cmd:luacheck=lua-check"
NEED_CMOCKA='pc:cmocka=libcmocka-dev'
# What OpenSSL's static libraries want beside them in Debian 13, for the static link that is tested.
NEED_STATIC='hdr:zlib.h=zlib1g-dev hdr:zstd.h=libzstd-dev'
NEED_FUZZ="$NEED_CMOCKA cmd:clang=clang fuzzer:clang=libclang-rt-dev"
NEED_TEST="$NEED_BUILD $NEED_JIT $NEED_LINT $NEED_CMOCKA $NEED_STATIC cmd:busted=lua-busted cmd:openssl=openssl
    cmd:luarocks=luarocks $NEED_SERVERS $NEED_NPM"

has_cmd() { command -v "$1" >/dev/null 2>&1; }
has_pc() { has_cmd pkg-config && pkg-config --exists "$1" 2>/dev/null; }

setup_needs() {
    case $1 in
    lua) echo "$NEED_LUA" ;;
    build) echo "$NEED_BUILD" ;;
    demo) echo "$NEED_BUILD $(webhooks_present || echo "$NEED_NPM")" ;;
    demo-valkey) echo "$NEED_BUILD $NEED_ANY_SERVER $(webhooks_present || echo "$NEED_NPM")" ;;
    lint) echo "$NEED_LINT" ;;
    bench) echo "$NEED_BUILD $NEED_JIT $NEED_SERVERS" ;;
    fuzz) echo "$NEED_BUILD $NEED_FUZZ" ;;
    test) echo "$NEED_TEST" ;;
    *) return 1 ;;
    esac
}

setup_probe() {
    probe_what=${1#*:}
    case $1 in
    cmd:cc) has_cmd cc || has_cmd gcc || has_cmd clang ;;
    cmd:*) has_cmd "$probe_what" ;;
    hdr:*) printf '#include <%s>\n' "$probe_what" | cc -E -x c - >/dev/null 2>&1 ;;
    pc:*) has_pc "$probe_what" ;;
    lua:*) has_cmd lua5.4 && lua5.4 -e "require '$probe_what'" >/dev/null 2>&1 ;;
    server:*) has_cmd valkey-server || has_cmd redis-server ;;
    fuzzer:*)
        has_cmd clang && printf 'int LLVMFuzzerTestOneInput(void) { return 0; }\n' |
            clang -fsanitize=fuzzer -x c - -o /dev/null >/dev/null 2>&1
        ;;
    esac
}

# Package names that differ from one release to the next.
setup_package() {
    case $1 in
    libclang-rt-dev)
        version=$(clang -dumpversion 2>/dev/null | sed 's/\..*//')
        [ -n "$version" ] ||
            version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
        echo "libclang-rt-${version:-14}-dev"
        ;;
    luajit | libluajit-5.1-dev)
        # Debian's nginx Lua module brings OpenResty's fork, and the two refuse to live together.
        if dpkg-query -W -f '${Status}' libluajit2-5.1-2 2>/dev/null | grep -q 'ok installed'; then
            case $1 in luajit) echo luajit2 ;; *) echo libluajit2-5.1-dev ;; esac
        else
            echo "$1"
        fi
        ;;
    *) echo "$1" ;;
    esac
}

setup_missing() {
    missing=
    for need in $1; do
        if ! setup_probe "${need%%=*}"; then
            package=$(setup_package "${need#*=}")
            case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
        fi
    done
    echo "${missing# }"
}

setup_stamp() { echo "$BUILD/.setup/$1-$(cat "$ROOT/tools/setup.sh" "$ROOT/dev" | cksum | tr ' ' '-')"; }

# For commands: a stamp of an earlier success is believed.
setup_for() {
    [ ! -e "$(setup_stamp "$1")" ] || return 0
    setup_run "$1"
}

setup_explicit() {
    if ! setup_needs "$1" >/dev/null; then
        say_error "setup: unknown purpose \"$1\"$(instead "$1" 'build demo demo-valkey test bench fuzz lint lua')"
        return 2
    fi
    setup_run "$1" || return 1
    case $1 in demo* | test) webhooks_fetch || [ "$1" = test ] || return 1 ;; esac
    say "set up for $1"
}

setup_run() {
    setup_list=$(setup_missing "$(setup_needs "$1")")
    if [ -n "$setup_list" ]; then
        setup_install "$setup_list" || return 1
        setup_list=$(setup_missing "$(setup_needs "$1")")
        # Valkey is not packaged everywhere; what needs it says so itself.
        case " $setup_list " in
        ' valkey-server ') say 'valkey-server is not packaged for this release: its tests will be skipped' ;;
        '  ') ;;
        *)
            say_error "still missing after the installation: $setup_list"
            return 1
            ;;
        esac
    fi
    mkdir -p "$BUILD/.setup" && : >"$(setup_stamp "$1")"
}

setup_refuse() {
    say_error "$1"
    say_error "please install by yourself: $2"
    if [ -f /etc/debian_version ]; then
        say_error "as root: apt-get install --no-install-recommends $2"
        case $2 in *valkey-server*)
            say_error '(valkey-server on Debian 12: from bookworm-backports)' ;;
        esac
    fi
    return 1
}

setup_install() {
    install_list=$1
    has_cmd apt-get || { setup_refuse 'there is no apt-get on this machine' "$install_list"; return 1; }
    if [ "$(id -u)" = 0 ]; then
        as_root() { env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "$@"; }
    elif has_cmd sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        as_root() { sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "$@"; }
    else
        setup_refuse 'installing packages needs root or sudo' "$install_list"
        return 1
    fi
    say "installing: $install_list"
    mkdir -p "$BUILD/log"
    install_log=$BUILD/log/setup.log
    : >"$install_log"
    progress 'apt-get update'
    as_root apt-get update >>"$install_log" 2>&1 || say "apt-get update had trouble (see $install_log), going on"
    progress_done 'apt-get update'
    install_names=
    for package in $install_list; do
        if [ "$package" = valkey-server ]; then
            setup_valkey_source
            apt-cache policy valkey-server 2>/dev/null | grep -q 'Candidate: [0-9]' || {
                # Where either server will do, the other one does.
                package=redis-server
            }
        fi
        install_names="$install_names $package"
    done
    install_had=$(setup_services)
    setup_block_services
    # shellcheck disable=SC2086
    as_root apt-get install -y --no-install-recommends $install_names >>"$install_log" 2>&1
    install_status=$?
    setup_unblock_services
    setup_disable_services "$install_had"
    if [ $install_status -ne 0 ]; then
        tail -n 15 "$install_log" >&2
        setup_refuse "apt-get could not install everything (log: $install_log)" "$install_list"
        return 1
    fi
}

# On Debian 12 valkey lives in backports: a sources file of its own, the rest of the system stays as it is.
setup_valkey_source() {
    apt-cache policy valkey-server 2>/dev/null | grep -q 'Candidate: [0-9]' && return 0
    codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
    [ "$codename" = bookworm ] || return 0
    say 'adding bookworm-backports (/etc/apt/sources.list.d/tidemill-backports.sources) for valkey-server'
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Origin: Debian' 2>/dev/null | head -n 1)
    printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: %s\n' \
        "${mirror:-http://deb.debian.org/debian}" /usr/share/keyrings/debian-archive-keyring.gpg |
        as_root tee /etc/apt/sources.list.d/tidemill-backports.sources >/dev/null
    as_root apt-get update >>"$install_log" 2>&1
}

# Installing a server must not leave one running, now or after the next boot.
setup_services() {
    for service in redis-server valkey-server; do
        if [ -e "/lib/systemd/system/$service.service" ] || [ -e "/etc/init.d/$service" ]; then printf '%s ' $service; fi
    done
}
setup_block_services() {
    POLICY_OURS=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        POLICY_OURS=1
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
        trap 'setup_unblock_services; exit 130' INT TERM
    fi
}
setup_unblock_services() {
    if [ -n "$POLICY_OURS" ]; then
        as_root rm -f /usr/sbin/policy-rc.d
        POLICY_OURS=
        trap - INT TERM
    fi
}
setup_disable_services() {
    for service in $(setup_services); do
        case " $1 " in
        *" $service "*) ;; # was here before us: its owner's business
        *)
            as_root env DPKG_MAINTSCRIPT_PACKAGE="$service" deb-systemd-helper disable "$service.service" >>"$install_log" 2>&1
            as_root update-rc.d "$service" disable >>"$install_log" 2>&1
            say "$service is installed but neither started nor enabled"
            ;;
        esac
    done
}

# -- the real input --------------------------------------------------------------------------------------------------
WEBHOOKS_PACKAGE='@octokit/webhooks-examples'
WEBHOOKS_VERSION=7.6.1
WEBHOOKS_DIR=$BUILD/webhooks
[ -n "${TIDEMILL_WEBHOOKS:-}" ] || TIDEMILL_WEBHOOKS=$WEBHOOKS_DIR/package/api.github.com/index.json
export TIDEMILL_WEBHOOKS

webhooks_present() { [ -s "$TIDEMILL_WEBHOOKS" ]; }

webhooks_fetch() {
    webhooks_present && return 0
    if [ "$TIDEMILL_WEBHOOKS" != "$WEBHOOKS_DIR/package/api.github.com/index.json" ]; then
        say_error "TIDEMILL_WEBHOOKS names \"$TIDEMILL_WEBHOOKS\", which can't be read"
        return 1
    fi
    progress 'fetching the webhook payloads'
    mkdir -p "$WEBHOOKS_DIR" "$BUILD/log"
    if (cd "$WEBHOOKS_DIR" && rm -f ./*.tgz && npm pack --loglevel=error "$WEBHOOKS_PACKAGE@$WEBHOOKS_VERSION" &&
        tar -xzf ./*.tgz && rm -f ./*.tgz) >"$BUILD/log/webhooks.log" 2>&1 && webhooks_present; then
        progress_done 'fetching the webhook payloads'
    else
        progress_failed 'fetching the webhook payloads'
        grep -i 'npm err' "$BUILD/log/webhooks.log" | head -n 3 >&2
        say_error "can't fetch $WEBHOOKS_PACKAGE@$WEBHOOKS_VERSION from the npm registry (log: $BUILD/log/webhooks.log);" \
            'set TIDEMILL_WEBHOOKS to a copy of its api.github.com/index.json'
        return 1
    fi
}

# lua_env 5.4|jit: the tree's Lua files and the modules built for that Lua.
lua_env() {
    unset LUA_PATH_5_4 LUA_CPATH_5_4 LUA_INIT LUA_INIT_5_4
    case $1 in jit) TIDEMILL_LUA=luajit ;; *) TIDEMILL_LUA=lua5.4 ;; esac
    LUA_PATH="$ROOT/lua/?.lua;$ROOT/lua/?/init.lua;$ROOT/?.lua;;"
    LUA_CPATH="$BUILD/lua/$1/?.so;;"
    TIDEMILL_ROOT=$ROOT TIDEMILL_BUILD=$BUILD TIDEMILL_BIN=$BUILD/tidemill
    export LUA_PATH LUA_CPATH TIDEMILL_LUA TIDEMILL_ROOT TIDEMILL_BUILD TIDEMILL_BIN
}
