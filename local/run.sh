#!/bin/sh
# Starts one of the project's own programs (local/<name>.ts) on Bun, installing Bun and the packages first where they are missing.
# POSIX sh, because it is what `npm run` and `bun run` both have on any machine.
set -eu
BUN_VERSION=1.4.5
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
say() { echo "cascade: $*" >&2; }

case "${1:-}" in
  demo | test | bench) program=$1; shift ;;
  *) say "usage: sh local/run.sh demo|test|bench [arguments]"; exit 64 ;;
esac

# True when `$1 --version` is BUN_VERSION or newer.
new_enough() {
  found=$("$1" --version 2>/dev/null) || return 1
  [ "$(printf '%s\n%s\n' "$BUN_VERSION" "$found" | sort -V | head -n 1)" = "$BUN_VERSION" ]
}

own=$root/.cascade/bun/node_modules/.bin/bun
if command -v bun >/dev/null 2>&1 && new_enough bun; then
  bun=$(command -v bun)
else
  bun=$own
  if ! new_enough "$bun"; then
    command -v npm >/dev/null 2>&1 || {
      say "neither bun $BUN_VERSION nor npm is here: install one of them, or use 'docker compose up --build'"
      exit 1
    }
    say "installing Bun $BUN_VERSION into .cascade/bun"
    npm install --prefix "$root/.cascade/bun" --no-save --loglevel=error "bun@$BUN_VERSION" >&2
  fi
fi
PATH=$(dirname -- "$bun"):$PATH
export PATH

if [ ! -d node_modules ] || [ bun.lock -nt node_modules ]; then
  say "installing packages"
  "$bun" install --frozen-lockfile >&2
  touch node_modules
fi
exec "$bun" "local/$program.ts" "$@"
