#!/usr/bin/env bash
# Locks one requirements file per image and one for the command, with hashes and without download addresses.
# Usage: requirements/compile.sh [--upgrade] [NAME…]; without names all are locked.
set -euo pipefail
cd "$(dirname "$0")/.."
flags=() wanted=()
for argument in "$@"; do
  case $argument in -*) flags+=("$argument") ;; *) wanted+=("$argument") ;; esac
done

# Debian 12 has glibc 2.36, hence the platform.
lock() { # lock NAME SOURCES AND FLAGS…
  local name=$1
  shift
  if ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $name "* ]]; then return; fi
  uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
    --python-platform x86_64-manylinux_2_36 --custom-compile-command 'requirements/compile.sh' \
    -o "requirements/$name.txt" "$@" "${flags[@]}"
}

lock tools requirements/tools.in
lock operator pyproject.toml --extra operator
lock observer pyproject.toml --extra observer
lock cli pyproject.toml --extra cli
lock capture pyproject.toml --extra capture
lock router requirements/router.in
lock server requirements/server.in --override requirements/server.overrides.in
# The wheel carries a server, of which its Python packages are no part.
lock triton requirements/triton.in --no-deps
lock torch-cuda requirements/torch.in
lock torch-cpu requirements/torch.in --override requirements/torch-cpu.overrides.in -c requirements/torch-cuda.txt
lock builder pyproject.toml --extra builder --override requirements/torch-cpu.overrides.in \
  --override requirements/builder.overrides.in -c requirements/torch-cuda.txt
lock dev pyproject.toml --extra operator --extra cli --extra builder --extra observer --extra capture --extra router --extra client --group dev
lock bench-drift requirements/bench-drift.in
# Only files of theirs are read.
lock bench-capture requirements/bench-capture.in --no-deps
