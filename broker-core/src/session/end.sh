# Sends signal $2 to every process whose environment holds $1, to all in their sessions, and to their children.
# A session that somebody else leads is not theirs: dropbear runs commands in its own.
# Those of other users, such as what `sudo` runs, get it by way of `sudo` where that asks for no password.
# Exits with 1 where there were any, with 0 where there were none. Needs no other program but the shell itself.
marker=$1 signal=$2 targets=' ' sessions=' '
marked() {
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in *"$marker"*) return 0 ;; esac
    done <"$1"
    return 1
}
# Sets $1 to the state of process $1, $2 to its parent, $4 to its session.
for entry in /proc/[0-9]*; do
    marked "$entry/environ" || continue
    process=${entry#/proc/}
    targets="$targets$process "
    read -r line <"$entry/stat" || continue
    set -- ${line##*) }
    session=$4
    [ "$session" -gt 1 ] || continue
    [ -e "/proc/$session" ] && ! marked "/proc/$session/environ" && continue
    sessions="$sessions$session "
done
[ "$targets" = ' ' ] && exit 0
again=yes
while [ -n "$again" ]; do
    again=
    for entry in /proc/[0-9]*; do
        process=${entry#/proc/}
        case $targets in *" $process "*) continue ;; esac
        read -r line <"$entry/stat" || continue
        set -- ${line##*) }
        case "$targets|$sessions" in *" $2 "*"|"* | *"|"*" $4 "*) targets="$targets$process " again=yes ;; esac
    done
done
others=
for process in $targets; do
    kill -s "$signal" "$process" 2>/dev/null || [ ! -e "/proc/$process" ] || others="$others $process"
done
[ -z "$others" ] || sudo -n /bin/sh -c 'signal=$1; shift; kill -s "$signal" "$@"' sh "$signal" $others
exit 1
