#!/bin/sh
# What the guide of the command shows, from its beginning to its end. The tests run it in an empty
# folder with the command on the path.

# cut-begin address
export KIMBERLITE_ADDRESS=embedded:./clinic
# cut-end

# cut-begin append
kimberlite streams create visits --class phi
kimberlite append visits '{"patient": 7, "reason": "check-up"}'
printf '%s\n' '{"patient": 9, "reason": "fracture"}' | kimberlite append visits --format ndjson
kimberlite append visits --expected-offset 2 '{"patient": 7, "reason": "follow-up"}'
# cut-end

# cut-begin read
kimberlite read visits
kimberlite read visits --from 1 --limit 1 --format ndjson
kimberlite tail visits -n 1
# cut-end

# cut-begin query
kimberlite query "SELECT id, data ->> '\$.reason' AS reason FROM visits" --format ndjson
kimberlite query "SELECT count(*) FROM visits WHERE data ->> '\$.patient' = ?" --param 7
position=$(kimberlite append visits '{"patient": 8, "reason": "scan"}' | sed 's/.*position //')
kimberlite append visits '{"patient": 8, "reason": "not seen below"}' --quiet
kimberlite query 'SELECT id, text FROM visits' --at-position "$position"
kimberlite query 'SELECT id, timestamp, text FROM visits' --format arrow --output visits.arrow
# cut-end

# cut-begin verify
kimberlite verify
kimberlite verify visits --local    # reads every block and walks the chain on this side
# cut-end

# cut-begin transfer
kimberlite export visits --output visits.ndjson
kimberlite export visits --output visits.ndjson --resume    # adds what came since
kimberlite import copy visits.ndjson --create phi
# cut-end
