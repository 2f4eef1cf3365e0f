#!/usr/bin/env bash
# Cross build for 64-bit Arm; its tests run under qemu-aarch64. The kernels of the levels neon, dotprod and i8mm
# must give the bits of ref, and the tiny models the hashes of tests/golden/hash.txt, which every machine shares.
#
#   tests/aarch64.sh BUILD_FOLDER [--quick]      quick: fewer kernel cases; no whole-model matrix, no self-test
#
# About 5 minutes of CPU time with the build, 2 with --quick. Installs what is missing (cross compiler, qemu).
# The outside libraries are Debian's arm64 packages, unpacked into BUILD_FOLDER/sysroot by an apt with lists of
# its own, so nothing of the machine's packages changes.
# Exit 0: all passed; 1: something failed; 3: it cannot be built here, which is said. BUILD_FOLDER/junit.xml and
# BUILD_FOLDER/test.log say what ran. WICK_JOBS: compiles at once (2). WICK_HOST: a program `wick` of this
# machine, whose hash on a model must be the same (default BUILD_FOLDER/../gcc/bin/wick, where it is there).
set -u
cd "$(dirname "$0")/.." || exit 2
[ $# -ge 1 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1" || exit 2
build=$(cd "$1" && pwd) quick=
[ "${2:-}" = --quick ] && quick=1
jobs=${WICK_JOBS:-2} sys=$build/sysroot
host=${WICK_HOST:-$build/../gcc/bin/wick}
cache=${WICK_CACHE:-${HOME:-/root}/.cache/wick}
libs=(libjansson-dev libjansson4 libutf8proc-dev libutf8proc2 libxxhash-dev libxxhash0 libpcre2-dev libpcre2-8-0
    libedit-dev libedit2 libbsd-dev libbsd0 libmd-dev libmd0 libncurses-dev libtinfo6 libcmocka-dev libcmocka0)
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
started=$SECONDS

no() { echo "aarch64: $*"; exit 3; }

install_tools() {
    local missing=()
    command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
    command -v cmake >/dev/null || missing+=(cmake)
    command -v ninja >/dev/null || missing+=(ninja-build)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || no "missing, and there is no apt-get: ${missing[*]}"
    echo "installing with apt-get: ${missing[*]}"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null || echo "apt-get update failed"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        >/dev/null || no "could not install ${missing[*]}"
}

# An apt of its own: arm64 only, its lists and downloads under the sysroot.
apt_arm() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$sys/apt/lists" \
        -o Dir::Cache="$sys/apt/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

fill_sysroot() {
    [ "$(cat "$sys/complete" 2>/dev/null)" != "${libs[*]}" ] || return 0
    command -v apt-get >/dev/null || no "no apt-get to fetch the arm64 libraries with"
    mkdir -p "$sys/apt/lists/partial" "$sys/apt/cache/archives/partial" "$sys/deb"
    { apt_arm update && (cd "$sys/deb" && apt_arm download "${libs[@]}"); } >"$build/sysroot.log" 2>&1 || {
        tail -n 5 "$build/sysroot.log"
        no "the arm64 libraries could not be fetched"
    }
    for deb in "$sys"/deb/*.deb; do dpkg-deb -x "$deb" "$sys" || no "$deb does not unpack"; done
    rm -rf "$sys/apt" "$sys/deb"
    echo "${libs[*]}" >"$sys/complete"
}

build_all() {
    if cmake -S . -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/tests/aarch64.cmake" -DWK_SYSROOT="$sys" \
        -DWICK_WERROR=ON >"$build/configure.log" 2>&1 && ninja -j"$jobs" -C "$build" >"$build/build.log" 2>&1; then
        return 0
    fi
    tail -n 20 "$build/configure.log"
    grep -E -A6 'error|warning|FAILED' "$build/build.log" 2>/dev/null | head -n 60
    echo "aarch64: the build failed"
    exit 1
}

# Tests that start the program by themselves are for the machine's own build.
run_tests() {
    local leave_out='^$'
    [ -z "$quick" ] || leave_out='^(check_selftest|test_arith|test_steps)$'
    export WK_CHECK_SHRINK=${WK_CHECK_SHRINK:-$([ -n "$quick" ] && echo 12 || echo 4)}
    unset WICK_SMOLLM2 WICK_GEMMA3 WICK_STORY WICK_VOCABS
    rm -f "$build/junit.xml"
    (cd "$build" && ctest -j"$jobs" --output-on-failure --timeout 600 -L '^(unit|check|golden|train)$' -LE 'long|lint' \
        -E "$leave_out" --output-junit "$build/junit.xml") >"$build/test.log" 2>&1
    local rc=$?
    grep -E '\*\*\*|tests passed' "$build/test.log"
    return $rc
}

arm() {
    local lib=$sys/usr/lib/aarch64-linux-gnu:$sys/lib/aarch64-linux-gnu
    qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH="$lib" "$build/bin/wick" "$@"
}

# same_hash MODEL TOKENS: every level of this build, and the machine's own program where there is one.
same_hash() {
    local line first='' who cmd=(run "$1" 'The capital of France is' --raw -n "$2" --temp 0 --hash -q)
    for who in ref neon dotprod i8mm host; do
        if [ $who = host ]; then
            [ -x "$host" ] || continue
            line=$("$host" "${cmd[@]}" | tail -n 1)
        elif [ $who = ref ] && [ "$(stat -c %s "$1")" -gt 10000000 ]; then
            continue # plain C is slow under an emulator
        else
            line=$(arm "${cmd[@]}" --cpu $who | tail -n 1)
        fi
        : "${first:=$line}"
        if [ "${line%% *}" != hash ] || [ "$line" != "$first" ]; then
            echo "FAILED: $1, $who: '$line', wanted '$first'"
            return 1
        fi
    done
    who=
    [ ! -x "$host" ] || who=' and on this machine'
    echo "$first on every level$who: ${1##*/}"
}

install_tools
fill_sysroot
build_all
echo "aarch64: built after $((SECONDS - started)) s"
failed=0
run_tests || failed=1
if [ -x "$build/bin/wick" ]; then
    same_hash tests/golden/tiny/llama.gguf 4 || failed=1
    if [ -z "$quick" ] && [ -f "$cache/smollm2.gguf" ]; then same_hash "$cache/smollm2.gguf" 2 || failed=1; fi
fi
echo "aarch64: $([ $failed -eq 0 ] && echo "all passed" || echo "something failed") after $((SECONDS - started)) s"
exit $failed
