#!/bin/sh
# Run clang-tidy on the native parts, as they were compiled for .venv; `make lint TIDY=1` does it.
#
#     scripts/tidy.sh [FILE...]
set -eu
cd "$(dirname "$0")/.."
tag=$(.venv/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
set_of_commands=""
for candidate in "build/$tag"-*/compile_commands.json; do
    [ ! -e "$candidate" ] || set_of_commands=$candidate
done
if [ -z "$set_of_commands" ]; then
    echo "tidy: the native parts were not compiled here: make setup first" >&2
    exit 1
fi
if [ $# = 0 ]; then
    find native \( -name '*.c' -o -name '*.cpp' \) -print0
else
    printf '%s\0' "$@"
fi | xargs -0 -n 1 -P "$(nproc)" .venv/bin/clang-tidy -p "${set_of_commands%/*}" --quiet
