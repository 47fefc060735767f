#!/bin/sh
# One job inside a container: cleans up after the last one, makes a fresh copy of the tree, becomes the command.
#
#     sh job.sh LIMIT runner|plain used|fresh ARGV...
#
# `fresh`: no job was in it before, and what runs beside this one is meant to.
#
# Standard input: a word of the host's, the runner's nonce, the number of paths to remove, those paths, a tar archive.
# Standard output: what the command wrote, both its streams. Standard error: `WORD begin`, `WORD dirty WHAT` or
# `WORD broken TEXT`, then the runner's proof. No other process of the container's user is there until the command
# starts, and none of ours afterwards: the host takes the exit code and counts what is left. Needs no more than sh, cp,
# rm, tar and timeout, from coreutils or busybox alike.
exec 3>&2 2>&1
umask 022
IFS= read -r word && IFS= read -r nonce && IFS= read -r removals || exit 1
limit=$1 kind=$2 state=$3
shift 3

end() {
    echo "$word $*" >&3
    exit 1
}

cleaned() {
    for folder in /repo /tmp /dev/shm /dev/mqueue; do
        set -- "$folder"/* "$folder"/.[!.]* "$folder"/..?*
        rm -rf "$@" || { chmod -R u+rwx "$@"; rm -rf "$@"; }
        for left in "$@"; do
            [ -e "$left" ] || [ -L "$left" ] && return 1
        done
    done 2>/dev/null
    return 0
}

# System V's shared memory, semaphores and queues outlive whoever made them, and so does a connection, whose port is taken
# for a minute more: each file has a head line, then one for each.
[ "$state" = fresh ] || for list in /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg /proc/net/tcp /proc/net/tcp6; do
    [ -r "$list" ] && { read -r line; read -r line && end dirty "$list"; } <"$list"
done
[ "$state" = fresh ] || cleaned || end dirty "files of the last job that can't be removed"
mkdir -p /repo/tree /repo/test /repo/tmp || end broken "/repo can't be written"
cp -a /opt/troop/base/. /repo/tree/ 2>/dev/null || end broken "the tree does not fit into /repo"
while [ "$removals" -gt 0 ]; do
    IFS= read -r path
    rm -f -- "/repo/tree/$path"
    removals=$((removals - 1))
done
# Not with the archive's times: compilers take a file for changed by this machine's clock.
tar -x -m -f - -C /repo || end broken "the changes can't be unpacked"
# What the build left in its home: caches of modules, programs. Links, so that a job may add to it.
if [ -d /opt/troop/home ]; then
    # Not `home/.`: /tmp itself is another's.
    cp -Rs /opt/troop/home/* /opt/troop/home/.[!.]* /tmp/ 2>/dev/null
    [ -d /opt/troop/home/.gradle ] && rm -rf /tmp/.gradle && cp -R /opt/troop/home/.gradle /tmp/ # it locks its files
    for folder in .local/bin .cargo/bin go/bin; do
        [ -d "/opt/troop/home/$folder" ] && PATH=/opt/troop/home/$folder:$PATH
    done
fi
# An environment that `setup` made; the one in the tree could be the candidate's.
[ -d /opt/troop/base/.venv/bin ] && PATH=/opt/troop/base/.venv/bin:$PATH
cd /repo/tree || end broken "there is no tree"
if [ "$kind" = runner ]; then
    # A file that is gone before the command starts: a pipe would need a process that fills it.
    (umask 077 && printf '%s\n' "$nonce" >/repo/nonce) || end broken "/repo can't be written"
    exec 0<>/repo/nonce # for writing, too: `timeout` keeps it open, so whoever has read it empties it
    rm /repo/nonce
else
    exec </dev/null
fi
echo "$word begin" >&3
[ "$kind" = runner ] || exec 3>&-
exec timeout -k 5 "$limit" "$@"
