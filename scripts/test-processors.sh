#!/bin/sh
# Run all tests, or those that are named, as processors of several kinds and with several numbers of threads.
#
#     scripts/test-processors.sh [ARGUMENTS OF PYTEST]
#
# ATEN_CPU_CAPABILITY is torch's own switch for what it uses of a processor. Ends with 1 where any run failed.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test

has() { grep -qw "$1" /proc/cpuinfo; }
runs="default:1 default:8"
if has avx2; then runs="$runs avx2:1 avx2:2"; fi
if has avx512f; then runs="$runs avx512:2 avx512:8"; else runs="$runs avx2:8"; fi

grep -m 1 '^model name' /proc/cpuinfo
failed=0
for run in $runs; do
    capability=${run%:*} threads=${run#*:}
    echo "== ATEN_CPU_CAPABILITY=$capability, $threads threads"
    ATEN_CPU_CAPABILITY=$capability BARNUM_TEST_THREADS=$threads OMP_NUM_THREADS=$threads \
        .venv/bin/python -m pytest -n "${PYTEST_WORKERS:-auto}" -q "$@" || failed=1
done
exit $failed
