#!/bin/sh
# Copies programs that judge into a folder where they may be executed, and not read. Root runs it once in a tree's image.
#
# A process whose program its user can't read is out of reach for that user's other processes: the kernel refuses ptrace,
# /proc/PID/mem, /proc/PID/fd and the like (PR_SET_DUMPABLE in prctl(2)). So a candidate's process decides neither how the
# shell of the script that started it ends, nor the `timeout` above or the `grep` beside it. Needs no more than job.sh.
sealed=/opt/troop/sealed
mkdir -p "$sealed" || exit 1
for program in sh bash dash ash ksh mksh zsh timeout env xargs grep egrep fgrep diff cmp cat head tail sed awk sort uniq \
    wc tr cut tee expr jq perl ruby php lua tclsh node; do
    place=$(command -v "$program")
    case $place in /*) ;; *) continue ;; esac
    IFS= read -r line <"$place"
    case $line in '#!'*) continue ;; esac # who runs a script must read it
    cp -L "$place" "$sealed/$program" && chmod 711 "$sealed/$program" || exit 1
    "$sealed/$program" --version </dev/null >/dev/null 2>&1
    [ $? -lt 126 ] || rm "$sealed/$program" # it needs files beside it
done
