# The steps of ./dev test. Sourced by ./dev after ui.sh, setup.sh and server.sh.
# shellcheck shell=sh
#
# A step is a function step_NAME that runs in a subshell with its output in build/log/NN-NAME.log and reports by
# result_pass, result_fail and result_skip, one call a case or a group of cases. A step that reports nothing failed.

STEPS='lint build c sim lua luajit integration conformance asan tsan examples install hiredis1 fuzz'

step_title() {
    case $1 in
    lint) echo 'format, layers, documentation coverage' ;;
    build) echo 'build, warnings are errors' ;;
    c) echo 'C tests' ;;
    sim) echo 'simulation, 2,000 seeds and more' ;;
    lua) echo 'Lua specs on Lua 5.4' ;;
    luajit) echo 'Lua specs on LuaJIT' ;;
    integration) echo 'integration, real servers' ;;
    conformance) echo 'conformance, every engine' ;;
    asan) echo 'AddressSanitizer, UBSan' ;;
    tsan) echo 'ThreadSanitizer' ;;
    examples) echo 'examples and README snippets' ;;
    install) echo 'install, pkg-config, CMake, LuaRocks' ;;
    hiredis1) echo 'build and proto tests on hiredis 1.x' ;;
    fuzz) echo 'fuzz targets, a short run' ;;
    esac
}

# -- reporting -------------------------------------------------------------------------------------------------------
result_pass() { echo "pass $1" >>"$STEP_RESULT"; }
result_fail() {
    echo "fail $*" >>"$STEP_RESULT"
    echo "FAILED: $*"
}
result_skip() {
    echo "skip $*" >>"$STEP_RESULT"
    echo "skipped: $*"
}
result_note() { echo "note $*" >>"$STEP_RESULT"; }

# check NAME COMMAND…: one case.
check() {
    check_name=$1
    shift
    echo "== $check_name: $*"
    if "$@"; then
        result_pass 1
    else
        result_fail "$check_name"
        return 1
    fi
}

ensure_build() {
    [ -z "${BUILD_DONE:-}" ] || return 0
    build_release >"$BUILD/log/ensure-build.log" 2>&1 && return 0
    tail -n 30 "$BUILD/log/ensure-build.log"
    result_fail "$STEP_NAME: the build failed (./dev test build)"
    return 1
}

# run_ctest FOLDER [CTEST_OPTION…]. A program that talks to a real server and fails runs once more, alone, after all the
# others: the machine may have stalled; said aloud each time.
REAL_SERVERS='live|server|differential'
run_ctest() {
    ctest_dir=$1
    shift
    ctest_out=$(mktemp) || return 1
    ctest --test-dir "$ctest_dir" -V -j "$JOBS" --no-tests=error "$@" >"$ctest_out" 2>&1
    ctest_status=$?
    cat "$ctest_out"
    awk -f "$ROOT/tools/count_ctest.awk" "$ctest_out" >"$ctest_out.counts"
    if grep -q '^none' "$ctest_out.counts"; then
        result_fail "ctest ran no test in ${ctest_dir#"$ROOT"/} (exit code $ctest_status)"
        rm -f "$ctest_out" "$ctest_out.counts"
        return
    fi
    for ctest_again in $(sed -n 's/^fail \([a-z_0-9]*\).*/\1/p' "$ctest_out.counts" | sort -u | grep -E "$REAL_SERVERS"); do
        echo "== $ctest_again once more, alone"
        # What passed in it the first time is counted already.
        ctest --test-dir "$ctest_dir" -V -R "^$ctest_again\$" >"$ctest_out" 2>&1 && {
            sed "/^fail $ctest_again[: ]/d" "$ctest_out.counts" >"$ctest_out" && cp "$ctest_out" "$ctest_out.counts"
            result_note "passed on the second run: $ctest_again"
            continue
        }
        cat "$ctest_out"
    done
    cat "$ctest_out.counts" >>"$STEP_RESULT"
    rm -f "$ctest_out" "$ctest_out.counts"
}

# specs_add FOLDER LABEL LUA [ENGINE]: puts every *_spec.lua of a folder on the list, a process of its own for each, so
# that a crash costs one file. specs_run WORKERS [again] works the list off and adds up. With "again", a file that
# fails runs once more, alone, after all the others: real servers on a stalled machine; said aloud each time.
specs_begin() { SPECS_DIR=$(mktemp -d) && : >"$SPECS_DIR/list" && SPECS_COUNT=0; }
specs_add() {
    for spec_file in $(find "$1" -name '*_spec.lua' | LC_ALL=C sort); do
        SPECS_COUNT=$((SPECS_COUNT + 1))
        # No empty word and no blank at the end: both mean something to xargs.
        echo "$SPECS_DIR/$(printf '%03d' $SPECS_COUNT) $3 $spec_file ${2:--}${4:+ $4}" >>"$SPECS_DIR/list"
    done
}
specs_run() {
    xargs -P "$1" -L 1 sh "$ROOT/tools/run_spec.sh" <"$SPECS_DIR/list"
    while read -r out lua file label engine; do
        [ -f "$out.counts" ] || echo "fail $file on $lua never ran" >"$out.counts"
        cat "$out.log"
        if grep -q '^fail' "$out.counts" && [ "${2:-}" = again ]; then
            echo "== once more, alone"
            # shellcheck disable=SC2086
            sh "$ROOT/tools/run_spec.sh" "$out" "$lua" "$file" "$label" $engine
            cat "$out.log"
            grep -q '^fail' "$out.counts" ||
                result_note "passed on the second run: ${label#-}$(basename "$file") ($lua)"
        fi
        cat "$out.counts" >>"$STEP_RESULT"
        [ -z "$engine" ] || sed "s/^/$engine $lua /" "$out.counts" >>"$SPECS_DIR/by-engine"
    done <"$SPECS_DIR/list"
}
specs_end() { rm -rf "$SPECS_DIR"; }

has_specs() { [ -d "$1" ] && [ -n "$(find "$1" -name '*_spec.lua' | head -n 1)" ]; }

# -- the steps -------------------------------------------------------------------------------------------------------
lint_format() {
    format_version=$(clang-format --version | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
    format_bin=clang-format
    if [ "$format_version" != 14 ]; then
        if has_cmd clang-format-14; then format_bin=clang-format-14; else
            result_skip 1 "clang-format: the tree is formatted by version 14, this is $format_version"
            return 0
        fi
    fi
    format_files=$(find csrc spec bench tools examples -name '*.[ch]' 2>/dev/null)
    [ -z "$format_files" ] && { result_fail 'clang-format: no C files'; return 0; }
    # shellcheck disable=SC2086
    check 'clang-format' $format_bin --dry-run -Werror $format_files
}

step_lint() {
    lint_format
    # shellcheck disable=SC2046
    check 'luacheck' luacheck --no-color -q $(find lua spec examples bench tools rockspec -maxdepth 0 2>/dev/null) \
        $(ls rockspec/*.rockspec 2>/dev/null)
    check 'layers' lua5.4 tools/layers.lua
    check 'layers: a planted violation is found' lua5.4 tools/layers_test.lua
    check 'documentation coverage' lua5.4 tools/doc_coverage.lua
    check 'house rules' sh tools/house.sh
    check 'shell syntax' sh -c 'for f in dev tools/*.sh; do sh -n "$f" || exit 1; done'
}

step_build() {
    check 'release build' build_release
    if [ -d csrc/binding ]; then
        check 'module for Lua 5.4' test -f "$BUILD/lua/5.4/tidemill/core.so"
        check 'module for LuaJIT' test -f "$BUILD/lua/jit/tidemill/core.so"
    else
        result_fail 'csrc/binding does not exist'
    fi
}

step_c() {
    ensure_build || return
    run_ctest "$BUILD"
}

# sim_run BINARY ARGUMENT…: the simulator ends with "N passed, N failed" (a case is a seed) or just an exit code.
sim_run() {
    sim_out=$(mktemp) || return 1
    echo "== $*"
    timeout --foreground -k 10 1800 "$@" >"$sim_out" 2>&1
    sim_status=$?
    tail -n 500 "$sim_out"
    sim_line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$sim_out" | tail -n 1)
    sim_seeds=$(sed -n 's/^\(seed [0-9]* failed: .*\)/fail simulator: \1/p' "$sim_out")
    rm -f "$sim_out"
    if [ -n "$sim_line" ] && [ $sim_status -eq 0 ]; then
        result_pass "${sim_line%% *}"
    elif [ $sim_status -eq 0 ]; then
        result_pass 1
    else
        [ -z "$sim_line" ] || result_pass "${sim_line%% *}"
        if [ -n "$sim_seeds" ]; then
            echo "$sim_seeds" >>"$STEP_RESULT"
        else
            shift
            result_fail "simulator $* (exit code $sim_status)"
        fi
    fi
}

step_sim() {
    [ -f spec/sim/main.c ] || { result_fail 'spec/sim/main.c does not exist'; return; }
    ensure_build || return
    sim_run "$BUILD/tidemill-sim" --seeds 1..2000
    if "$BUILD/tidemill-sim" --help 2>&1 | grep -q -e '--engine'; then
        sim_run "$BUILD/tidemill-sim" --engine file --seeds 1..500
    else
        result_fail 'tidemill-sim has no --engine'
    fi
}

step_lua() {
    has_specs spec/lua || { result_fail 'spec/lua has no specs'; return; }
    ensure_build || return
    specs_begin
    specs_add spec/lua '' 5.4
    specs_run 1
    specs_end
}

step_luajit() {
    has_specs spec/lua || { result_fail 'spec/lua has no specs'; return; }
    ensure_build || return
    specs_begin
    specs_add spec/lua '' jit
    specs_run 1
    specs_end
}

step_integration() {
    has_specs spec/integration || { result_fail 'spec/integration has no specs'; return; }
    ensure_build || return
    webhooks_present || result_skip 1 'the webhook payloads could not be fetched'
    specs_begin
    specs_add spec/integration '' 5.4
    specs_add spec/integration jit/ jit
    # One more than there are processors: faults_minute_spec.lua mostly waits.
    specs_run $((JOBS + 1)) again
    specs_end
}

step_conformance() {
    has_specs spec/conformance || { result_fail 'spec/conformance has no specs'; return; }
    ensure_build || return
    matrix=$BUILD/log/conformance-matrix.txt
    printf '%-10s %-8s %8s %8s %8s\n' engine Lua passed failed skipped >"$matrix"
    specs_begin
    for engine in memory file redis valkey; do
        case $engine in redis | valkey)
            if ! has_cmd $engine-server; then
                result_skip 1 "conformance on $engine: $engine-server is not installed"
                printf '%-10s %-8s %26s\n' $engine - 'not installed' >>"$matrix"
                continue
            fi ;;
        esac
        specs_add spec/conformance "$engine/5.4/" 5.4 $engine
        specs_add spec/conformance "$engine/jit/" jit $engine
    done
    specs_run "$JOBS" again
    for engine in memory file redis valkey; do
        for lua in 5.4 jit; do
            awk -v e=$engine -v l=$lua '$1 == e && $2 == l {
                    if ($3 == "pass") p += $4; else if ($3 == "fail") f++; else if ($3 == "skip") s += $4; any = 1 }
                END { if (any) printf "%-10s %-8s %8d %8d %8d\n", e, l, p, f, s }' "$SPECS_DIR/by-engine" >>"$matrix"
        done
    done
    specs_end
    cat "$matrix"
    sed 's/^/note /' "$matrix" >>"$STEP_RESULT"
}

step_asan() {
    asan=$BUILD/asan
    configure_and_build "$asan" RelWithDebInfo -DTIDE_SANITIZE=address,undefined || {
        result_fail 'asan: the build failed'
        return
    }
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1
    UBSAN_OPTIONS=print_stacktrace=1
    export ASAN_OPTIONS UBSAN_OPTIONS
    run_ctest "$asan"
    [ -x "$asan/tidemill-sim" ] && sim_run "$asan/tidemill-sim" --seeds 1..200
    # The module inside a stock interpreter: the sanitizer has to come first. Leaks are the C tests' business, the
    # interpreter leaves by exit() with its heap alive.
    if has_specs spec/lua && [ -f "$asan/lua/5.4/tidemill/core.so" ]; then
        ASAN_OPTIONS=detect_leaks=0
        TIDEMILL_SANITIZED=1
        SPEC_CPATH="$asan/lua/5.4/?.so;;"
        SPEC_PRELOAD=$(cc -print-file-name=libasan.so)
        export TIDEMILL_SANITIZED SPEC_CPATH SPEC_PRELOAD
        specs_begin
        specs_add spec/lua asan/ 5.4
        specs_run 1
        specs_end
    fi
}

step_tsan() {
    tsan=$BUILD/tsan
    configure_and_build "$tsan" RelWithDebInfo -DTIDE_SANITIZE=thread || {
        result_fail 'tsan: the build failed'
        return
    }
    # gcc 12's runtime can't map its shadow when addresses are randomised too widely.
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        no_aslr="setarch $(uname -m) -R"
    else
        no_aslr=
    fi
    if ! printf 'int main(void) { return 0; }\n' | cc -fsanitize=thread -x c - -o "$tsan/probe" 2>/dev/null ||
        ! $no_aslr "$tsan/probe"; then
        result_skip 1 'ThreadSanitizer does not run on this machine (address space layout)'
        return
    fi
    TSAN_OPTIONS=second_deadlock_stack=1
    export TSAN_OPTIONS
    ctest_plain=$(command -v ctest)
    ctest() { $no_aslr "$ctest_plain" "$@"; }
    # power and every_call replay thousands of images in one thread: nothing to race.
    run_ctest "$tsan" -L 'runtime|sqlite|transport' -E 'sqlite_(power|every_call)'
}

# example_run NAME LUA URL
example_run() { timeout --foreground -k 5 180 "$2" "examples/$1/main.lua" "$3"; }

step_examples() {
    ensure_build || return
    examples=$(ls -d examples/*/ 2>/dev/null | sed 's|examples/||; s|/$||')
    if [ -z "$examples" ]; then
        result_fail 'examples/ does not exist'
    else
        webhooks_present || result_skip 1 'examples/webhooks: the payloads could not be fetched'
        for example in $examples; do
            [ -f "examples/$example/main.lua" ] || continue
            [ "$example" != webhooks ] || webhooks_present || continue
            lua_env 5.4
            check "examples/$example on memory:" example_run "$example" lua5.4 memory:
            lua_env jit
            check "examples/$example on memory:, LuaJIT" example_run "$example" luajit memory:
            lua_env 5.4
            for server in valkey redis; do
                has_cmd $server-server || { result_skip 1 "examples/$example: no $server-server"; continue; }
                server_start $server || { result_fail "examples/$example: $server did not start"; continue; }
                check "examples/$example on $server" example_run "$example" lua5.4 "$SERVER_URL"
                server_stop
            done
        done
    fi
    if [ -f README.md ]; then
        lua_env 5.4
        snippet_out=$(mktemp)
        lua5.4 tools/readme_snippets.lua >"$snippet_out" 2>&1
        snippet_status=$?
        cat "$snippet_out"
        awk -v name='snippets' -v status=$snippet_status -f tools/count_tap.awk "$snippet_out" >>"$STEP_RESULT"
        rm -f "$snippet_out"
    else
        result_fail 'README.md does not exist'
    fi
}

step_install() {
    ensure_build || return
    sh tools/install_check.sh >"$BUILD/log/install-check.tap" 2>&1
    install_status=$?
    cat "$BUILD/log/install-check.tap"
    awk -v name=install -v status=$install_status -f tools/count_tap.awk "$BUILD/log/install-check.tap" >>"$STEP_RESULT"
}

# The library that Debian 12 has is 0.14. hiredict's shims are hiredis 1.x by another name; they are unpacked into
# the build folder and never installed.
step_hiredis1() {
    hiredict=$BUILD/hiredict
    if [ ! -f "$hiredict/pc/hiredis.pc" ]; then
        rm -rf "$hiredict"
        mkdir -p "$hiredict/pc"
        if ! (cd "$hiredict" && apt-get download libhiredict-dev libhiredict-shims-dev libhiredict1.3.1) &&
            ! (cd "$hiredict" && apt-get download libhiredict-dev libhiredict-shims-dev \
                "$(apt-cache depends libhiredict-dev | sed -n 's/.*Depends: \(libhiredict[0-9.]*\)$/\1/p' | head -n 1)"); then
            result_skip 1 'hiredis 1.x: the packages can not be downloaded here'
            return
        fi
        for deb in "$hiredict"/*.deb; do dpkg -x "$deb" "$hiredict"; done
        hiredict_lib=$(dirname "$(find "$hiredict" -name 'libhiredict.so' | head -n 1)")
        printf 'Name: hiredis\nDescription: 1.x by hiredict\nVersion: 1.3.1\nCflags: -isystem %s\nLibs: -L%s -Wl,-rpath,%s -lhiredict\n' \
            "$hiredict/usr/include" "$hiredict_lib" "$hiredict_lib" >"$hiredict/pc/hiredis.pc"
    fi
    PKG_CONFIG_PATH=$hiredict/pc
    export PKG_CONFIG_PATH
    configure_and_build "$BUILD/hiredis1" RelWithDebInfo || {
        result_fail 'hiredis 1.x: the build failed'
        return
    }
    result_pass 1
    run_ctest "$BUILD/hiredis1" -L 'proto|broker|engine'
}

# fuzz_run SECONDS: libFuzzer on every target; the corpus grows in build/fuzz, what is in the tree is only read.
fuzz_run() {
    ls spec/fuzz/fuzz_*.c >/dev/null 2>&1 || { say 'spec/fuzz has no targets'; return 0; }
    fuzz_targets=$(ls spec/fuzz/fuzz_*.c | sed 's|.*/||; s|\.c$||')
    # shellcheck disable=SC2086
    configure_and_build "$BUILD/fuzz" RelWithDebInfo -DCMAKE_C_COMPILER=clang -DTIDE_FUZZ=ON -DTIDE_WERROR=OFF \
        -DTIDE_SANITIZE=address,undefined -- $fuzz_targets || return 1
    fuzz_status=0
    for target in $fuzz_targets; do
        fuzz_work=$BUILD/fuzz/corpus/${target#fuzz_}
        fuzz_seed=spec/fuzz/corpus/${target#fuzz_}
        mkdir -p "$fuzz_work"
        [ -d "$fuzz_seed" ] || fuzz_seed=
        # A Lua state that lives on makes libFuzzer look for leaks after every input; here they are found at the end.
        fuzz_leaks=1
        [ "$target" != fuzz_event ] || fuzz_leaks=0
        echo "== $target, $1 s"
        # shellcheck disable=SC2086
        if "$BUILD/fuzz/fuzz/$target" -max_total_time="$1" -rss_limit_mb=2048 -print_final_stats=1 \
            -timeout=20 -detect_leaks=$fuzz_leaks -artifact_prefix="$BUILD/fuzz/$target-" "$fuzz_work" $fuzz_seed; then
            [ -z "${STEP_RESULT:-}" ] || result_pass 1
        else
            fuzz_status=1
            [ -z "${STEP_RESULT:-}" ] || result_fail "$target: see $BUILD/fuzz/$target-*"
        fi
    done
    return $fuzz_status
}

step_fuzz() {
    if ! ls spec/fuzz/fuzz_*.c >/dev/null 2>&1; then
        result_fail 'spec/fuzz has no targets'
    elif setup_probe fuzzer:clang; then
        fuzz_run "${TIDEMILL_FUZZ_SECONDS:-10}" || [ -s "$STEP_RESULT" ] || result_fail 'fuzz: the build failed'
    else
        ensure_build || return
        result_skip 1 'libFuzzer: clang is not installed (./dev setup fuzz); the corpus is replayed instead'
        run_ctest "$BUILD" -L fuzz
    fi
}

# -- running them ----------------------------------------------------------------------------------------------------
sum_results() {
    cat "$@" 2>/dev/null | awk '/^pass / { p += $2 } /^fail / { f++ } /^skip / { s += $2 }
        END { printf "%d %d %d\n", p, f, s }'
}

run_step() {
    STEP_NAME=$1
    step_number=$2
    step_log=$BUILD/log/$(printf '%02d' "$step_number")-$1.log
    STEP_RESULT=$BUILD/log/result/$(printf '%02d' "$step_number")-$1
    : >"$STEP_RESULT"
    step_head=$(printf '%2d/%d %-12s %-40s' "$step_number" "$STEP_COUNT" "$1" "$(step_title "$1")")
    [ -z "$UI_TTY" ] || printf '%s …' "$step_head"
    step_start=$(date +%s)
    ("step_$1") >"$step_log" 2>&1
    step_seconds=$(($(date +%s) - step_start))
    [ -s "$STEP_RESULT" ] || echo "fail $1: the step reported nothing" >>"$STEP_RESULT"
    # shellcheck disable=SC2046
    set -- "$1" $(sum_results "$STEP_RESULT")
    step_text="$2 passed"
    step_colour=$UI_GREEN
    [ "$4" = 0 ] || { step_text="$step_text, $4 skipped"; step_colour=$UI_YELLOW; }
    [ "$3" = 0 ] || { step_text="$step_text, $3 failed"; step_colour=$UI_RED; }
    [ -z "$UI_TTY" ] || printf '\r'
    printf '%s %s%-28s%s %5d s  %s\n' "$step_head" "$step_colour" "$step_text" "$UI_OFF" "$step_seconds" \
        "${step_log#"$ROOT"/}"
    sed -n 's/^note /      /p' "$STEP_RESULT"
    # Many cases skip for one reason, which stands in parentheses at the end.
    sed -n 's/^skip [0-9]* //p' "$STEP_RESULT" | sed 's/^[^(]*(\(.*\))$/\1/' | LC_ALL=C sort | uniq -c |
        sed 's/^ *\([0-9]*\) /      skipped \1: /'
    [ "$3" = 0 ]
}

test_list() {
    number=0
    for name in $STEPS; do
        number=$((number + 1))
        printf '%2d  %-12s %s\n' $number "$name" "$(step_title "$name")"
    done
}

test_main() {
    wanted=
    with_setup=1
    STEP_COUNT=$(echo $STEPS | wc -w)
    for argument in "$@"; do
        case $argument in
        --list) test_list; return 0 ;;
        --no-setup) with_setup= ;;
        --help) help_one test; return 0 ;;
        [0-9] | [0-9][0-9])
            name=$(echo $STEPS | cut -d ' ' -f "$argument" 2>/dev/null)
            [ -n "$name" ] || { say_error "test: there is no step $argument (./dev test --list)"; return 2; }
            wanted="$wanted $name" ;;
        *)
            case " $STEPS " in
            *" $argument "*) wanted="$wanted $argument" ;;
            *)
                say_error "test: unknown step \"$argument\"$(instead "$argument" "$STEPS --list --no-setup")"
                return 2 ;;
            esac ;;
        esac
    done
    [ -n "$wanted" ] || wanted=$STEPS

    mkdir -p "$BUILD/log/result"
    rm -f "$BUILD"/log/result/* "$BUILD"/log/[0-9][0-9]-*.log
    if [ -n "$with_setup" ]; then
        purpose=test
        [ "$wanted" = ' lint' ] && purpose=lint
        [ "$wanted" = ' fuzz' ] && purpose=fuzz
        setup_for $purpose || { echo '0 passed, 1 failed'; return 1; }
        case " $wanted " in *' integration '* | *' examples '*) webhooks_fetch ;; esac
    fi

    number=0
    failed_steps=
    BUILD_DONE=
    for name in $STEPS; do
        number=$((number + 1))
        case " $wanted " in *" $name "*) ;; *) continue ;; esac
        if run_step "$name" $number; then
            [ "$name" != build ] || BUILD_DONE=1
        else
            failed_steps="$failed_steps $(printf '%02d' $number)-$name"
        fi
    done

    for failed in $failed_steps; do
        printf '\n%s%s failed:%s\n' "$UI_RED" "$failed" "$UI_OFF"
        sed -n 's/^fail /  /p' "$BUILD/log/result/$failed"
        step_why=$(grep -A 12 -e '^not ok' -e '\[  ERROR   \]' -e 'ERROR: [A-Za-z]*Sanitizer' -e 'WARNING: ThreadSanitizer' \
            -e 'runtime error:' -e ' error: ' "$BUILD/log/$failed.log" | head -n 80)
        if [ -n "$step_why" ]; then
            printf '%s\n' "$step_why" | sed 's/^/  > /'
        else
            echo "  the end of $BUILD/log/$failed.log:"
            tail -n 40 "$BUILD/log/$failed.log" | sed 's/^/  | /'
        fi
    done
    # shellcheck disable=SC2046
    set -- $(sum_results "$BUILD"/log/result/*)
    if [ "$3" = 0 ]; then
        echo "$1 passed, $2 failed"
    else
        echo "$1 passed, $2 failed, $3 skipped"
    fi
    [ "$2" = 0 ]
}
