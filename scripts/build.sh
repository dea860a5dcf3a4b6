#!/bin/sh
# Compile the native parts and install the package in place (editable) into .venv; safe to call twice at once.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
exec flock build/.lock .venv/bin/pip install --quiet --no-build-isolation --no-deps --editable .
