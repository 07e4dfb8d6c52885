#!/usr/bin/env bash
# Runs every fuzz target of the module, one after another, each for the time
# given (default 10s). A failure leaves its input under the package's testdata.
#
# Inputs that reach new code are minimized by a few tries only: by default Go
# spends up to a minute on each, and in that time tries nothing new.
set -euo pipefail
cd "$(dirname "$0")/.."
for_time=${1:-10s}

targets=0
while read -r dir name; do
  targets=$((targets + 1))
  echo "fuzz $dir $name"
  go test "$dir" -run '^$' -fuzz "^$name\$" -fuzztime "$for_time" -fuzzminimizetime 5x -parallel 2
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . |
  sed -E 's#^(.*)/[^/]+:func (.*)$#\1 \2#' | sort -u)
echo "fuzz: $targets targets, $for_time each, nothing found"
