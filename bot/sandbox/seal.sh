#!/bin/sh
# Has programs that judge be executed, and not read, and compiles ours. Root runs it once in a tree's image.
#
# A process whose program its user can't read is out of reach for that user's other processes: the kernel refuses ptrace,
# /proc/PID/mem, /proc/PID/fd and the like (PR_SET_DUMPABLE in prctl(2)). So a candidate's process decides neither how the
# shell of the script that started it ends, nor the `timeout` above or the `grep` beside it. Needs no more than job.sh.
for folder in $(IFS=:; echo $PATH) /bin /usr/bin /usr/local/bin; do
    for program in sh bash dash ash ksh mksh zsh timeout env xargs grep egrep fgrep diff cmp cat head tail sed awk gawk mawk \
        sort uniq wc tr cut tee expr jq perl ruby php lua tclsh node deno bun julia java; do
        [ -f "$folder/$program" ] || continue
        IFS= read -r line <"$folder/$program"
        case $line in '#!'*) continue ;; esac # who runs a script must read it
        chmod 711 "$folder/$program" # of what a link leads to, as `awk` and `ruby` often are
    done
done 2>/dev/null
# What runs beside a script in Python takes 20 ms to compile, which each job would do anew.
python3 -I -S -m compileall -q -b /opt/troop/*.py 2>/dev/null || true # without Python, no script needs it
