#!/usr/bin/env bash
# Installs what Parley needs and this machine lacks:
#
#   scripts/install.sh build   nothing but Go itself, which it checks
#   scripts/install.sh run     the private database and the local voices
#   scripts/install.sh test    all that, a browser, a C compiler for the race detector,
#                              and the Vault of the tests, which is built once: 13
#                              minutes of one processor, half a minute where Go has
#                              compiled its packages before
#
# It asks apt-get on Debian and Ubuntu, brew on macOS. Elsewhere, or where it
# may not install, it says what is missing and ends with status 1. It does
# nothing, in a fraction of a second, where nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-}
case $level in
  build | run | test) ;;
  *)
    echo "usage: scripts/install.sh build|run|test" >&2
    exit 2
    ;;
esac

say() { printf 'parley: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# Go cannot come from a package manager: theirs are years behind go.mod.
check_go() {
  local want
  want=$(awk '$1 == "go" { print $2; exit }' go.mod)
  has go || die "Go is missing: install version $want or newer from https://go.dev/dl/ and put its bin folder into PATH."
  # A Go older than go.mod asks for fetches the right one by itself, unless
  # GOTOOLCHAIN or the network forbid it.
  go version >/dev/null 2>&1 ||
    die "this Go is older than $want, which go.mod asks for, and could not fetch a newer one: install it from https://go.dev/dl/."
}

# Debian keeps the server's programs out of PATH, as do others.
has_postgres() {
  local bin
  for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
    /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
    if [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ]; then
      return 0
    fi
  done
  has initdb && has postgres
}
has_model() { [ -d /usr/share/pocketsphinx/model/en-us ]; }
has_browser() { has chromium || has chromium-browser || has google-chrome; }
has_compiler() {
  if [ "$(uname)" = Darwin ]; then
    has clang
  else
    has "${CC:-gcc}" && [ -e /usr/include/stdlib.h ] # libc's headers come apart
  fi
}

# The names are Debian's; missing holds them.
find_missing() {
  missing=()
  [ "$level" = build ] && return 0
  has_postgres || missing+=(postgresql)
  has flite || missing+=(flite)
  has pocketsphinx_continuous || missing+=(pocketsphinx)
  has_model || missing+=(pocketsphinx-en-us)
  [ "$level" = run ] && return 0
  has_browser || missing+=(chromium)
  has jq || missing+=(jq)
  has curl || missing+=(curl)
  has_compiler || missing+=(gcc libc6-dev)
  return 0
}

# As root runs its arguments, else by sudo; without a terminal sudo may not ask.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif ! has sudo; then
    return 1
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

by_apt() {
  local packages=("${missing[@]}") by_hand
  # Ubuntu's chromium is a snap behind this name.
  if grep -qi '^ID=ubuntu' /etc/os-release; then
    packages=("${packages[@]/%chromium/chromium-browser}")
  fi
  by_hand="run: sudo apt-get update && sudo apt-get install --no-install-recommends ${packages[*]}"
  say "installing ${packages[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  as_root true || die "${missing[*]} missing, and only root may install them; $by_hand"
  as_root "${apt[@]}" update >/dev/null || say "apt-get update had errors; going on with what it knows"
  as_root "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >&2 ||
    die "apt-get could not install ${packages[*]}; its words stand above. When cured, $by_hand"
}

by_brew() {
  local formulas=() casks=() rest=() name
  for name in "${missing[@]}"; do
    case $name in
      postgresql) formulas+=(postgresql@17) ;;
      flite) formulas+=(flite) ;;
      chromium) casks+=(chromium) ;;
      jq | curl) formulas+=("$name") ;;
      gcc) rest+=("a C compiler (xcode-select --install)") ;;
      pocketsphinx) rest+=("pocketsphinx_continuous of PocketSphinx 0.8, which brew does not have") ;;
    esac
  done
  [ ${#formulas[@]} = 0 ] || brew install "${formulas[@]}" </dev/null >&2
  [ ${#casks[@]} = 0 ] || brew install --cask "${casks[@]}" </dev/null >&2
  [ ${#rest[@]} = 0 ] && return 0
  say "still missing: $(printf '%s; ' "${rest[@]}")"
  # Without the local recognizer Parley runs: by text, keypad, or a vendor's key.
  [ "$level" = run ] && exit 0
  exit 1
}

# The Vault of the tests is built from its own module, and found in the user's
# cache folder after that.
build_vault() { store/vault/vaulttest/server/build.sh >/dev/null; }

check_go
[ "$level" != test ] || build_vault
find_missing
[ ${#missing[@]} = 0 ] && exit 0
if has apt-get; then
  by_apt
elif [ "$(uname)" = Darwin ] && has brew; then
  by_brew
else
  die "missing: ${missing[*]} (Debian's names). Install them with your package manager, then try again."
fi

find_missing
[ ${#missing[@]} = 0 ] || die "installed, and yet not found in PATH: ${missing[*]} (Debian's names)."
