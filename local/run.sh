#!/bin/sh
# run.sh demo|test|bench|reliability|simulate [argument...]: finds or fetches Bun, installs the packages, then becomes the program asked for.
set -eu

wanted=1.4.5
repository=$(cd "$(dirname "$0")/.." && pwd)
fetched=$repository/.cascade/bun/node_modules/.bin

say() { printf '[set-up] %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# Whether the bun at $1 runs here and is new enough.
suits() {
  version=$("$1" --version 2>/dev/null) || return 1
  printf '%s %s\n' "$version" "$wanted" | awk '{
    split($1, have, /[.-]/); split($2, want, /[.-]/)
    for (i = 1; i <= 3; i++) if (have[i] + 0 != want[i] + 0) exit (have[i] + 0 < want[i] + 0)
  }'
}

find_bun() {
  bun=$(command -v bun) && suits "$bun" && return
  bun=$fetched/bun
  PATH=$fetched:$PATH
  export PATH
  suits "$bun" && return
  command -v npm >/dev/null || fail "Bun $wanted or newer is missing, and so is npm to fetch it. Install one of them. The other way needs Docker alone: docker compose up --build"
  say "Fetching Bun $wanted ..."
  npm install --prefix "$repository/.cascade/bun" --no-audit --no-fund "bun@$wanted" >&2
  suits "$bun" || fail "Bun $wanted was fetched to $bun and does not run on this machine."
}

# The mark says that an install went through: an interrupted one leaves a folder that looks like it. A patch may change without the lock file.
install_packages() {
  mark=node_modules/.cascade-installed
  [ -e "$mark" ] && [ -z "$(find bun.lock patches -newer "$mark")" ] && return
  say "Installing the packages ..."
  "$bun" install --frozen-lockfile >&2
  touch "$mark"
}

case ${1-} in
  demo) program=local/demo.ts ;;
  test) program=local/test.ts ;;
  bench) program=bench/main.ts ;;
  reliability) program=e2e/reliability/main.ts ;;
  simulate) program=e2e/simulation/main.ts ;;
  *) fail "usage: sh local/run.sh demo|test|bench|reliability|simulate [argument...]" ;;
esac
shift

cd "$repository"
find_bun
install_packages
exec "$bun" "$program" "$@"
