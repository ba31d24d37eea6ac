#!/usr/bin/env bash
# Has the lab up for as long as its standard input is open, and says READY on
# standard output when it is. Whoever has the other end of that pipe may end as
# it likes, also by kill -9: the lab goes with the last one of them. A lab that
# somebody has brought up by hand is used, and stays.
#
# up.sh's variables are understood. What the scripts print goes to standard error.
set -uo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=${OPENSTACK_LAB_DIR:-/tmp/openstack-lab}
STATE=$LAB/state
RUN=$LAB/run
LOGS=$LAB/logs
# There while the lab is up for its holders alone.
OURS=$RUN/held
. "$HERE/lib.sh"

exec 3<&0 < /dev/null
mkdir -p "$LAB"
# The services must not have it: what they have open stays locked.
exec 8> "$LAB/holders.lock"
flock --shared 8
mkdir -p "$RUN"
alive keystone || touch "$OURS"

let_go() {
    trap '' TERM INT HUP
    exec 8>&-
    exec 9> "$LAB/holders.lock"
    if [ -e "$OURS" ] && flock --exclusive --nonblock 9; then
        "$HERE/down.sh" >&2 9>&- || exit 1
    fi
}
trap let_go EXIT
trap 'exit 143' TERM INT HUP

set -m
flock --close "$LAB/up.lock" "$HERE/up.sh" >&2 3<&- 8>&- &
up=$!
set +m
while kill -0 $up 2> /dev/null; do
    # Above 128: nothing was said so far. Nobody being there any more ends it.
    read -r -t 0.3 -u 3 _ || [ $? -gt 128 ] || { kill -TERM -- -$up; break; }
done
wait $up || exit 1
# The pipe may be broken.
(trap '' PIPE; echo READY) 2> /dev/null
while read -r -u 3 _; do :; done
