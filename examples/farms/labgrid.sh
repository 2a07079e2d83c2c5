#!/bin/sh
# labgrid: reserves each place, and measures its shard from here through an agent on it.
#
#   elastic profile plan --platform jetson --out plan
#   PLACES="orin-0 orin-1" sh examples/farms/labgrid.sh
#   elastic profile merge --plan plan
#
# The platform's transport is exec: [labgrid-client, ssh, --, elastic, agent]; labgrid-client takes the place from LG_PLACE.
set -eu
client=${LABGRID_CLIENT:-labgrid-client}
COUNT=$(echo "$PLACES" | wc -w)
export COUNT LG_PLACE INDEX
INDEX=0 jobs=
for LG_PLACE in $PLACES; do
    $client acquire
    sh "$(dirname "$0")/shard.sh" &
    jobs="$jobs $!"
    INDEX=$((INDEX + 1))
done
code=0
for job in $jobs; do wait "$job" || code=$?; done
for LG_PLACE in $PLACES; do $client release; done
exit $code
