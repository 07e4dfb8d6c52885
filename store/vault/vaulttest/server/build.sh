#!/usr/bin/env bash
# Builds the Vault that the tests of store/vault run against, once a version,
# into the user's cache folder, and prints where it is:
#
#   store/vault/vaulttest/server/build.sh
#
# The first build compiles some 1,650 packages; later ones find it there. Vault
# v1.21.4 as published does not compile against the SDK that its own go.mod
# names: in a copy, three call sites are edited. What is compiled is verified
# by the checksums of go.sum and of this file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

version=v1.21.4
sum='h1:KHGcdSnJtombvae1gDk+jZ50kiFngJPFDOvcCJRnU0c='

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-12; }
case $(uname) in
  Darwin) cache=${HOME:?}/Library/Caches ;;
  *) cache=${XDG_CACHE_HOME:-${HOME:?}/.cache} ;;
esac
cache=$cache/parley
key=$version-$(cat "$here"/main.go.txt "$here"/go.mod "$here"/go.sum "$here"/build.sh | digest)
out=$cache/vault-$key
if [ -x "$out" ]; then
  echo "$out"
  exit 0
fi

go=${GO:-go}
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
echo "building Vault $version for the tests: the first time takes minutes" >&2
fetched=$(cd "$work" && GOWORK=off "$go" mod download -json "github.com/hashicorp/vault@$version")
field() { sed -n "s/^[[:space:]]*\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" <<<"$fetched"; }
if [ "$(field Sum)" != "$sum" ]; then
  echo "Vault $version is not what it was: checksum $(field Sum), want $sum" >&2
  exit 1
fi

mkdir "$work/server" "$work/vault"
cp "$here/go.mod" "$here/go.sum" "$work/server"
# Under this name no tool takes it for a file of the product.
cp "$here/main.go.txt" "$work/server/main.go"
# The console, the changes and the tests of Vault are not needed, and most of its size.
tar -C "$(field Dir)" -cf - --exclude ./ui --exclude ./changelog --exclude ./enos --exclude ./website . | tar -C "$work/vault" -xf -
chmod -R u+w "$work/vault"

edit() { # file, what stands there, what shall stand there
  if ! grep -qF "$2" "$work/vault/$1"; then
    echo "Vault $version: $1 does not have: $2" >&2
    exit 1
  fi
  sed -i.orig "s|$2|$3|" "$work/vault/$1"
}
edit vault/identity_store.go 'ActivationFunc: iStore.activateDeduplication,' \
  'ActivationFunc: func(ctx context.Context, req *logical.Request, _ string) error { return iStore.activateDeduplication(ctx, req) },'
edit vault/logical_system_activation_flags.go 'ActivationFunc(ctx, nil)' 'ActivationFunc(ctx, nil, "")'
edit builtin/logical/transit/path_restore.go 'restoredKeyName, err := b.lm.RestorePolicy(ctx, req.Storage, keyName, backupB64, force)' \
  'restoredKeyName := keyName; err := b.lm.RestorePolicy(ctx, req.Storage, keyName, backupB64, force)'

mkdir -p "$cache"
(cd "$work/server" && GOWORK=off CGO_ENABLED=0 nice -n 5 "$go" build -p 2 -trimpath -ldflags '-s -w' -o "$work/vault-server" .)
mv "$work/vault-server" "$out.$$" && mv "$out.$$" "$out"
echo "$out"
