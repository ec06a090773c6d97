# What ./dev says and how: sourced, no side effects beyond the colour variables.
# shellcheck shell=sh

UI_BOLD='' UI_RED='' UI_GREEN='' UI_YELLOW='' UI_OFF='' UI_TTY=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    UI_TTY=1
    UI_BOLD=$(printf '\033[1m') UI_RED=$(printf '\033[31m') UI_GREEN=$(printf '\033[32m')
    UI_YELLOW=$(printf '\033[33m') UI_OFF=$(printf '\033[0m')
fi

say() { printf '%s\n' "dev: $*"; }
say_error() { printf '%s\n' "dev: $*" >&2; }

# A line that is overwritten on a terminal, and written once it is done elsewhere.
progress() { [ -z "$UI_TTY" ] || printf '%s … ' "$1"; }
progress_done() { if [ -n "$UI_TTY" ]; then printf '\r%s: %sdone%s\033[K\n' "$1" "$UI_GREEN" "$UI_OFF"; fi; }
progress_failed() { if [ -n "$UI_TTY" ]; then printf '\r%s: %sfailed%s\033[K\n' "$1" "$UI_RED" "$UI_OFF"; fi; }

# instead WORD "CANDIDATE…": "; did you mean …?" with the nearest candidate, when that may be a slip; else all of them.
instead() {
    printf '%s\n' "$2" | tr ' ' '\n' | awk -v a="$1" '
        function min3(x, y, z) { if (y < x) x = y; if (z < x) x = z; return x }
        function distance(s, t,   i, j, n, m, d) {
            n = length(s); m = length(t)
            for (i = 0; i <= n; i++) d[i, 0] = i
            for (j = 0; j <= m; j++) d[0, j] = j
            for (i = 1; i <= n; i++)
                for (j = 1; j <= m; j++)
                    d[i, j] = min3(d[i-1, j] + 1, d[i, j-1] + 1,
                                   d[i-1, j-1] + (substr(s, i, 1) != substr(t, j, 1)))
            return d[n, m]
        }
        BEGIN { best = 1e9 }
        $0 != "" {
            all = all (all == "" ? "" : ", ") $0
            x = distance(a, $0)
            if (x < best) { best = x; name = $0 }
        }
        END {
            if (best <= length(a) / 3 + 1 && best < length(name)) printf "; did you mean \"%s\"?", name
            else printf "; there are %s", all
        }'
}
