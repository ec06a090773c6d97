# `ctest -V` output -> lines "pass N", "skip N REASON", "fail NAME". Counts cmocka's cases; a program without them is
# one case; a program that died or leaked without naming a case is one failure.
function id_of(line) { sub(/:.*/, "", line); return line + 0 }
/^ *[0-9]+: .*\[  PASSED  \] [0-9]+ test\(s\)/ {
    n = $0; sub(/.*PASSED  \] /, "", n); passed[id_of($0)] += n + 0; seen[id_of($0)] = 1
}
/^ *[0-9]+: .*\[  SKIPPED \] [0-9]+ test\(s\)/ {
    n = $0; sub(/.*SKIPPED \] /, "", n); skipped[id_of($0)] += n + 0
}
/^ *[0-9]+: \[  FAILED  \] [0-9]+ test\(s\)/ { next }
/^ *[0-9]+: \[  FAILED  \] / {
    id = id_of($0); n = $0; sub(/.*FAILED  \] /, "", n); sub(/[ \r]+$/, "", n)
    if (!((id, n) in known)) { known[id, n] = 1; failed[id] = failed[id] "\n" n; seen[id] = 1 }
}
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
    id = $0; sub(/^[^#]*#/, "", id); id = id + 0
    name = $0; sub(/^[^#]*#[0-9]+: /, "", name); status = name
    sub(/ .*/, "", name); sub(/^[^ ]+ [. ]*/, "", status); sub(/ +[0-9.]+ sec.*/, "", status)
    done++
    if (status ~ /^Passed/) {
        if (seen[id]) pass += passed[id]; else pass += 1
        skip += skipped[id]
    } else {
        pass += passed[id]
        count = split(failed[id], names, "\n")
        for (i = 2; i <= count; i++) print "fail " name ": " names[i]
        if (count < 2 || status !~ /\*\*\*Failed/) print "fail " name " (" status ")"
    }
}
END {
    if (pass) print "pass " pass
    if (skip) print "skip " skip " cmocka skip"
    if (!done) print "none"
}
