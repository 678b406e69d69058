#!/bin/sh
# guard.sh SIGNAL FOLDER COMMAND...: becomes COMMAND, and leaves a guard behind that outlives it and the parent.
#
# File descriptor 3 is a pipe whose other end only the parent holds. The kernel closes it however the parent ends, SIGKILL
# included, and then the guard ends COMMAND and everything below it: SIGNAL first, SIGKILL for what is left. FOLDER, if any,
# is removed afterwards. A line on the pipe means that the parent saw COMMAND end, so there is nothing left to guard.
#
# COMMAND keeps this shell's pid ($$, also inside a subshell), so signals and exit statuses are its own. The guard is
# started through a second fork, since a postmaster takes a child it doesn't know for a crashed backend.
signal=$1
folder=$2
shift 2

table() {
  if [ -r /proc/self/stat ]; then
    cat /proc/[0-9]*/stat 2>/dev/null | sed 's/(.*)//' | awk '{ print $1, $3 }'
  else
    ps -A -o pid=,ppid=
  fi
}

tree() {
  table | awk -v root="$$" '
    { parent[$1] = $2 }
    END {
      found[root] = 1
      do {
        more = 0
        for (pid in parent) if (!(pid in found) && (parent[pid] in found)) { found[pid] = 1; more = 1 }
      } while (more)
      for (pid in found) print pid
    }'
}

guard() {
  trap '' HUP INT TERM
  cd /
  read -r _ <&3 && exit 0
  pids=$(tree)
  kill -CONT $pids
  if [ "$signal" != KILL ]; then
    kill -"$signal" $$
    tenths=0
    while kill -0 $$ && [ "$tenths" -lt 50 ]; do
      sleep 0.1
      tenths=$((tenths + 1))
    done
  fi
  kill -KILL $pids $(tree)
  if [ -n "$folder" ]; then
    rm -rf "$folder"
    rmdir "${folder%/*}"
  fi
}

( guard </dev/null >/dev/null 2>&1 & )
exec 3<&-
exec "$@"
