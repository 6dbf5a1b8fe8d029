#!/usr/bin/env bash
# Locks one requirements file per image, with hashes and without download addresses. Usage: requirements/compile.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { # lock NAME ARGS...
  local name=$1; shift
  uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --custom-compile-command 'requirements/compile.sh' \
    -o "requirements/$name.txt" "$@"
}
lock operator pyproject.toml --extra operator "${@}"
lock observer pyproject.toml --extra observer "${@}"
lock builder pyproject.toml --extra builder "${@}"
lock server requirements/server.in "${@}"
lock router pyproject.toml --extra router "${@}"
lock dev pyproject.toml --extra operator --extra builder --extra observer --extra client --group dev "${@}"
