#!/bin/sh
# One job inside a container: cleans up after the last one, makes a fresh copy of the tree, runs the command.
#
#     sh job.sh LIMIT runner|plain ARGV...
#
# Standard input: the report's secret, the runner's nonce, the number of paths to remove, those paths, a tar archive.
# Standard output: what the command wrote, both its streams. Standard error: the report, lines `SECRET WORD ...`:
# `begin`, then `status EXIT_CODE PROCESSES_LEFT MEMORY_KILLS`, or `broken TEXT`. Needs no more than sh, cp, rm, tar
# and timeout, from coreutils or busybox alike.
exec 3>&2 2>&1
umask 022
IFS= read -r secret && IFS= read -r nonce && IFS= read -r removals || exit 1
limit=$1 kind=$2
shift 2

broken() {
    echo "$secret broken $*" >&3
    exit 1
}

memory_kills() {
    for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
        [ -r "$file" ] && while read -r word number; do
            [ "$word" = oom_kill ] && echo "$number" && return
        done <"$file"
    done
    echo 0
}

count() {
    # Without this shell and the two processes that keep the container.
    set -- /proc/[0-9]*
    processes=$(($# - 3))
}

cleaned() {
    for folder in /repo /tmp /dev/shm; do
        set -- "$folder"/* "$folder"/.[!.]* "$folder"/..?*
        rm -rf "$@" || { chmod -R u+rwx "$@"; rm -rf "$@"; }
        for left in "$@"; do
            [ -e "$left" ] || [ -L "$left" ] && return 1
        done
    done 2>/dev/null
    return 0
}

cleaned || broken "the last job's files can't be removed"
mkdir -p /repo/tree /repo/test || broken "/repo can't be written"
cp -a /opt/troop/base/. /repo/tree/ || broken "the tree does not fit into /repo"
while [ "$removals" -gt 0 ]; do
    IFS= read -r path
    rm -f -- "/repo/tree/$path"
    removals=$((removals - 1))
done
tar -x -f - -C /repo || broken "the changes can't be unpacked"
# An environment that `setup` made; the one in the tree could be the candidate's.
[ -d /opt/troop/base/.venv/bin ] && PATH=/opt/troop/base/.venv/bin:$PATH
cd /repo/tree || broken "there is no tree"
kills=$(memory_kills)
echo "$secret begin" >&3
if [ "$kind" = runner ]; then
    printf '%s\n' "$nonce" | timeout -k 5 "$limit" "$@"
    status=$?
else
    timeout -k 5 "$limit" "$@" </dev/null 3>&-
    status=$?
fi
count
if [ "$processes" -gt 0 ]; then
    sleep 0.1 # what has just ended may not have been reaped
    count
fi
echo "$secret status $status $processes $(($(memory_kills) - kills))" >&3
