#!/bin/bash
# Counts the instructions of the fixed scenarios (src/scenarios.rs) and compares them with callgrind.reference.
#
#   callgrind.sh [--update] [SCENARIO...]
#
# Without names all run. --update writes the counts into the reference. Exits with 1 when a scenario takes over 3 % more
# than the reference says for the same tools; counts of other tools are shown, and not judged. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")"

limit=3
reference=callgrind.reference
# glibc chooses its copies by the processor, and valgrind counts `rep movsb` as one instruction an octet: neither has
# anything to do with our code, so every machine gets the same plain ones.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-ERMS,-FSRM,-BMI2,-MOVBE

command -v valgrind >/dev/null || {
    echo "error: valgrind is missing (Debian: apt-get install valgrind)" >&2
    exit 2
}

update=false
names=()
for argument in "$@"; do
    case $argument in
    --update) update=true ;;
    -*)
        echo "usage: $0 [--update] [SCENARIO...]" >&2
        exit 2
        ;;
    *) names+=("$argument") ;;
    esac
done

cargo build --quiet --release -p tidewire-integration-tests --example scenarios
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
program=$target/release/examples/scenarios
tools="$(rustc --version), $(valgrind --version), glibc $(getconf GNU_LIBC_VERSION | cut -d' ' -f2), $(uname -m)"

mapfile -t all < <("$program")
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
known_tools=$(sed -n 's/^# tools: //p' "$reference" 2>/dev/null || true)
comparable=true
if [ "$tools" != "$known_tools" ]; then
    comparable=false
    echo "the reference was made with other tools: ${known_tools:-none}"
    if $update && [ ${#names[@]} -ne ${#all[@]} ]; then
        echo "error: a reference of other tools is updated as a whole" >&2
        exit 2
    fi
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
log=$scratch/log
# std's hash maps take their keys from the system: with fixed ones their probes are the same in every run.
cc -shared -fPIC -O1 -o "$scratch/fixed_random.so" -x c - <<'END'
#include <string.h>
#include <sys/types.h>
ssize_t getrandom(void *buffer, size_t len, unsigned flags) {
    (void)flags;
    memset(buffer, 7, len);
    return len;
}
END
declare -A counts
failed=false
printf '%-14s %15s %15s %9s\n' scenario instructions reference change
for name in "${names[@]}"; do
    if ! LD_PRELOAD=$scratch/fixed_random.so valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file="$log" "$program" "$name" >/dev/null; then
        cat "$log" >&2
        exit 2
    fi
    count=$(sed -n 's/.*Collected : //p' "$log")
    counts[$name]=$count
    known=$(awk -v name="$name" '$1 == name { print $2 }' "$reference" 2>/dev/null || true)
    if [ -z "$known" ]; then
        printf '%-14s %15d %15s %9s\n' "$name" "$count" - -
        continue
    fi
    change=$(awk -v new="$count" -v old="$known" 'BEGIN { printf "%+.2f", 100 * (new - old) / old }')
    printf '%-14s %15d %15d %8s%%\n' "$name" "$count" "$known" "$change"
    if awk -v change="$change" -v limit="$limit" 'BEGIN { exit !(change > limit) }'; then
        failed=true
    fi
done

if $update; then
    {
        echo "# Instructions of each scenario, written by callgrind.sh --update."
        echo "# tools: $tools"
        for name in "${all[@]}"; do
            # What did not run keeps its count.
            count=${counts[$name]:-$(awk -v name="$name" '$1 == name { print $2 }' "$reference" 2>/dev/null || true)}
            [ -z "$count" ] || echo "$name $count"
        done
    } >"$reference.new"
    mv "$reference.new" "$reference"
elif $failed && $comparable; then
    echo "error: over $limit % more than the reference; if that is meant, run $0 --update" >&2
    exit 1
fi
