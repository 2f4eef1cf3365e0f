#!/usr/bin/env bash
# No illegal instruction: the program on emulated processors, the poorest first. On each it must choose the level
# that the processor has and no better one, pass its own test of every kernel of every level up to it (`wick
# doctor`), and print the hashes below, which all machines share. The objects outside a level's folder must hold no
# instruction above the baseline, nor a level's those of a higher one.
#
#   tests/levels.sh COMPILER PROGRAM OBJECTS EMULATOR [ARGUMENT...]
#
# COMPILER makes the instructions that an emulated processor must refuse, so that an emulator which refuses nothing
# is no proof. OBJECTS: the folder of the library's objects. EMULATOR: qemu-x86_64 or qemu-aarch64, with what it
# needs to find libraries. Exit 0: all as wanted; 1: not; 77: no such emulator here, which is said.
set -u
ulimit -c 0
cd "$(dirname "$0")/.." || exit 2
[ $# -ge 4 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
cc=$1 wick=$2 objects=$3
shift 3
emulator=("$@")
command -v "$1" >/dev/null || { echo "levels: skipped, there is no $1 here (Debian: qemu-user)"; exit 77; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failed=0

wrong() { echo "FAILED: $*"; failed=1; }

# `wick run MODEL PROMPT --raw -n 4 --temp 0 --hash`, by model of tests/golden/tiny; WICK_ARITH 1.
prompt='The capital of France is'
hashes=(llama:d5f8edb4875339c9e141571d18cae1dd qwen3:4640b8c894a0b9c7058ff9ae452b1944
    gemma3:eae898d18e7cd4b8d3b1579e3b5e681a)

# Processor : the level it has : the instruction that it has not.
# Opteron_G1 without SSE3 is the x86-64 of the ABI, the least that a 64-bit program may ask for.
case ${1##*/} in
qemu-x86_64)
    machines=("Opteron_G1,-pni:ref:ssse3" Nehalem:ref:avx Haswell:avx2:avx512)
    exit_zero='mov $60, %eax; xor %edi, %edi; syscall'
    declare -A instruction=([ssse3]='pshufb %xmm0, %xmm0' [avx]='vxorps %ymm0, %ymm0, %ymm0'
        [avx512]='vpxord %zmm16, %zmm16, %zmm16' [none]=nop)
    declare -A above=([avx2]='%zmm|%k[0-7]' [avx512]='[[:space:]]v(pdp|dpbf16)' [avx512vnni]='' [avx512bf16]='[[:space:]]vpdp')
    baseline_above='[[:space:]]v[a-z0-9]+ .*%[xyz]mm'
    ;;
qemu-aarch64)
    machines=(cortex-a53:neon:dotprod cortex-a76:dotprod:i8mm max:i8mm:none)
    exit_zero='mov x0, #0; mov x8, #93; svc #0'
    declare -A instruction=([dotprod]='.arch armv8.2-a+dotprod; sdot v0.4s, v1.16b, v2.16b'
        [i8mm]='.arch armv8.2-a+i8mm; smmla v0.4s, v1.16b, v2.16b' [none]=nop)
    declare -A above=([neon]='[[:space:]]([su]dot|us?mmla|smmla)[[:space:]]' [dotprod]='[[:space:]](us?mmla|smmla)[[:space:]]' [i8mm]='')
    baseline_above=${above[neon]}
    ;;
*) echo "levels: no list of processors for $1"; exit 2 ;;
esac

on() { # on PROCESSOR PROGRAM ARGUMENT...
    local cpu=$1
    shift
    "${emulator[@]}" -cpu "$cpu" "$@" 2>>"$work/stderr"
}

# A program that does nothing but one instruction.
build_instruction() {
    printf 'void _start(void);\nvoid _start(void) { __asm__ volatile("%s"); }\n' \
        "${instruction[$1]}; $exit_zero" >"$work/$1.c"
    "$cc" -O1 -nostdlib -static -fno-stack-protector -fno-pie -no-pie -o "$work/$1" "$work/$1.c" \
        >"$work/cc.log" 2>&1 || { cat "$work/cc.log"; wrong "$cc does not build the instruction of $1"; return 1; }
}

# The emulator runs what every processor has and refuses what this one lacks.
check_emulator() { # PROCESSOR LACKS
    build_instruction none && build_instruction "$2" || return
    on "$1" "$work/none" || wrong "$1: the emulator does not run an empty program"
    [ "$2" = none ] && return
    if (on "$1" "$work/$2") 2>/dev/null; then wrong "$1: the emulator runs $2, so it proves nothing"; fi
}

check_hashes() { # PROCESSOR LEVEL
    local pair model line
    for pair in "${hashes[@]}"; do
        model=${pair%%:*}
        line=$(on "$1" "$wick" run "tests/golden/tiny/$model.gguf" "$prompt" --raw -n 4 --temp 0 --hash -q | tail -n 1)
        [ "$line" = "hash ${pair#*:}" ] || wrong "$1, $model: '$line', wanted 'hash ${pair#*:}'"
    done
}

check_machine() { # PROCESSOR LEVEL LACKS
    check_emulator "$1" "$3"
    : >"$work/stderr"
    on "$1" "$wick" doctor >"$work/doctor" || wrong "$1: wick doctor ended with $?"
    grep -q "^level  *$2 " "$work/doctor" || wrong "$1: '$(head -n 1 "$work/doctor")', wanted level $2"
    grep -q "^test $2 .*bit for bit" "$work/doctor" || wrong "$1: wick doctor did not test level $2"
    check_hashes "$1" "$2"
    [ $failed -eq 0 ] || grep -v 'TCG doesn.t support' "$work/stderr" | head -n 5
    echo "$1: level $2, $(grep -c '^test ' "$work/doctor") levels tested, ${#hashes[@]} models"
}

# search PATTERN OBJECT...: fails and names the object that holds such an instruction.
search() {
    local pattern=$1 file
    shift
    for file in "$@"; do
        "$objdump" -d --no-show-raw-insn "$file" | grep -E -m 1 "$pattern" >"$work/found" || continue
        wrong "${file#"$objects"/} holds '$(tr -s '[:space:]' ' ' <"$work/found")'"
    done
}

check_objects() {
    local level n files=()
    objdump=$("$cc" -print-prog-name=objdump)
    command -v "$objdump" >/dev/null || { echo "objects: not looked at, there is no objdump"; return; }
    local outside=()
    for level in "${!above[@]}"; do outside+=(! -path "*/simd/$level/*" ! -path "*/simd/grad/$level/*"); done
    mapfile -t files < <(find "$objects" -name '*.o' "${outside[@]}")
    n=${#files[@]}
    [ "$n" -gt 0 ] || { wrong "no objects in $objects"; return; }
    search "$baseline_above" "${files[@]}"
    for level in "${!above[@]}"; do
        mapfile -t files < <(find "$objects" \( -path "*/simd/$level/*.o" -o -path "*/simd/grad/$level/*.o" \))
        [ ${#files[@]} -gt 0 ] || { wrong "no objects of level $level in $objects"; continue; }
        [ -z "${above[$level]}" ] || search "${above[$level]}" "${files[@]}"
    done
    echo "objects: $n outside the levels looked at"
}

check_objects
for machine in "${machines[@]}"; do
    IFS=: read -r cpu level lacks <<<"$machine"
    check_machine "$cpu" "$level" "$lacks"
done
exit $failed
