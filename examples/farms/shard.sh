#!/bin/sh
# Measures one shard of a plan; every engine in this folder ends here. INDEX counts from 0, as most engines do.
set -eu
exec "${ELASTIC:-elastic}" profile run --plan "${PLAN:-plan}" --shard "$((INDEX + 1))/$COUNT"
