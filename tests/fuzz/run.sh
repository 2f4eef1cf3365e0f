#!/usr/bin/env bash
# Builds the fuzz targets with clang and libFuzzer (address and undefined-behaviour sanitizers) and runs each of them on
# its kept corpus for some time. Exits with 1 if any of them found something; the inputs then lie in the folder named.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]     seconds for each target (60)
#
# Environment: WICK_BUILD  build folders (default ./build), WICK_JOBS  compiles at once, targets at once (default 2)
set -u
cd "$(dirname "$0")/../.." || exit 2
seconds=${1:-60}
shift
jobs=${WICK_JOBS:-2}
dir=${WICK_BUILD:-$PWD/build}/fuzz
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^wk_fuzz(fuzz_\([a-z0-9_]*\) .*/\1/p' tests/fuzz/CMakeLists.txt)
if ! command -v clang >/dev/null; then
    echo "skipped: fuzzing needs clang"
    exit 77
fi
mkdir -p "$dir/found"
if ! cmake -S . -B "$dir" -G Ninja -DCMAKE_C_COMPILER=clang -DWICK_FUZZ=ON -DWICK_SANITIZE=ON >"$dir/configure.log" 2>&1 ||
    ! ninja -j"$jobs" -C "$dir" "${targets[@]/#/fuzz_}" >"$dir/build.log" 2>&1; then
    tail -n 20 "$dir/configure.log" "$dir/build.log"
    exit 1
fi

# New inputs go to a folder of their own: the kept corpus changes by hand only.
fuzz() {
    local name=$1 new=$dir/corpus/$1
    mkdir -p "$new"
    "$dir/bin/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=512 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$dir/found/$name-" "$new" "tests/fuzz/corpus/$name" >"$dir/$name.log" 2>&1
    local rc=$? runs
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")
    if [ $rc -eq 0 ]; then
        echo "fuzz_$name: ${runs:-0} inputs, nothing found"
    else
        echo "fuzz_$name: FOUND something (exit $rc), see $dir/found and $dir/$name.log"
        grep -E -m3 'ERROR|SUMMARY|runtime error' "$dir/$name.log"
    fi
    return $rc
}

export dir seconds
failed=0
for ((i = 0; i < ${#targets[@]}; i += jobs)); do
    pids=()
    for name in "${targets[@]:i:jobs}"; do
        fuzz "$name" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
done
exit $failed
