# TAP -> lines "pass N", "skip N NAME", "fail NAME". -v name=FILE -v status=EXIT_CODE. No plan at the end means that
# the runner died on the way.
/^ok [0-9]+ - # SKIP/ { sub(/^ok [0-9]+ - # SKIP */, ""); print "skip 1 " name ": " $0; seen++; next }
/^ok [0-9]+/ { pass++; seen++ }
/^not ok [0-9]+/ { sub(/^not ok [0-9]+ -? */, ""); print "fail " name ": " $0; failed++; seen++ }
/^1\.\.[0-9]+$/ { plan = substr($0, 4) + 0; planned = 1 }
END {
    if (pass) print "pass " pass
    if (!planned) print "fail " name ": the runner ended without its plan (exit code " status ")"
    else if (plan != seen) print "fail " name ": " seen " of " plan " results"
    else if (status != 0 && !failed) print "fail " name ": exit code " status
}
