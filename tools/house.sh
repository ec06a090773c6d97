#!/bin/sh
# House rules that a search can hold: no open ends, no path of one machine, the licence line, clean line ends.
cd "$(dirname "$0")/.." || exit 1
status=0
files() {
    find . \( -path ./.git -o -path ./build -o -path './build-*' -o -name corpus \) -prune -o -type f "$@" -print |
        grep -v -e '^./tools/house.sh$' -e '\.so$' -e '\.o$' -e '\.db$'
}
refuse() { # TITLE PATTERN
    found=$(files | tr '\n' '\0' | xargs -0 grep -nIE "$2" 2>/dev/null)
    if [ -n "$found" ]; then
        printf '%s\n' "$found" | sed "s|^|$1: |"
        status=1
    fi
}
refuse 'an open end' '\b(TODO|FIXME|XXX)\b'
refuse "one machine's path" '(^|[^[:alnum:]_./:-])/(work|root|home/[[:alnum:]_]+|tmp/brief|tmp/b-[[:alnum:]]+)/'
refuse 'trailing blanks' '[ 	]+$'
for file in $(files \( -name '*.c' -o -name '*.h' \)); do
    head -n 1 "$file" | grep -q '^/\* SPDX-License-Identifier: MIT \*/$' || {
        echo "$file:1: no SPDX line"
        status=1
    }
done
exit $status
