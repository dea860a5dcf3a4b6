#!/bin/sh
# Run all tests, or those that are named, as processors of several kinds and with several numbers of threads.
#
#     scripts/test-processors.sh [ARGUMENTS OF PYTEST]
#
# ATEN_CPU_CAPABILITY is torch's own switch for what its kernels use of a processor; numbers of threads are those
# that commands run in the tests' own process take. Ends with 1 where any run failed.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test

has() { grep -qw "$1" /proc/cpuinfo; }
best=default
! has avx2 || best=avx2
! has avx512f || best=avx512
runs="default:1 $best:8"
! has avx2 || runs="$runs avx2:2"

grep -m 1 '^model name' /proc/cpuinfo || true
failed=0
for run in $runs; do
    capability=${run%:*} threads=${run#*:}
    echo "== ATEN_CPU_CAPABILITY=$capability, $threads threads"
    ATEN_CPU_CAPABILITY=$capability BARNUM_TEST_THREADS=$threads OMP_NUM_THREADS=$threads \
        .venv/bin/python -m pytest -n "${PYTEST_WORKERS:-auto}" -q "$@" || failed=1
done
exit $failed
