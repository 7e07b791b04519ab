#!/usr/bin/env bash
# Builds the plugin for operators, so that whoever builds the same commit with the same tools gets the same bytes.
#
#   ops/deploy/plugin/build.sh [--out DIR] [--twice]
#
# DIR (default: dist in the repository) receives the library, its debug information, and SHA256SUMS. The library's name holds
# its version and what it is for: a new version is a new file, never a file written over (docs/guides/plugin-operator.md).
# --twice builds a second time, from a copy of the commit in another folder, and compares. A build takes about a quarter of an
# hour of processor time.
#
# Exit: 0 done, 1 the build failed, 3 the two builds differ.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
out=$root/dist
twice=
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=${2:?--out needs a folder}; shift 2 ;;
        --twice) twice=yes; shift ;;
        *) printf 'error: unknown option %s; see the head of this file\n' "$1" >&2; exit 2 ;;
    esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Compilers' flags are separated by blanks.
case $root$out in *[[:space:]]*) printf 'error: build in a folder without blanks in its name\n' >&2; exit 2 ;; esac

fail() { printf 'error: %s\n' "$1" >&2; exit "${2:-1}"; }
say() { printf '· %s\n' "$1" >&2; }

cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustc=$(cd "$root" && rustc -V) || fail "rustc is missing: https://rustup.rs"
sysroot=$(cd "$root" && rustc --print sysroot)
locked() { awk -v name="name = \"$1\"" '$0 == name { getline; gsub(/[^0-9.]/, ""); print; exit }' "$root/Cargo.lock"; }
version=$(locked geyser-plugin)
agave=$(locked agave-geyser-plugin-interface)
release=$(printf '%s' "$rustc" | cut -d' ' -f2)
name=libgeyser_plugin-$version-agave$agave-rustc$release.so

# The commit's time stands for "now" in whatever asks for it.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null) ||
        fail "outside a clone: set SOURCE_DATE_EPOCH, for example to the release's time"
fi
export SOURCE_DATE_EPOCH

# Builds the sources in folder $1 with the target folder $2.
compile() {
    local source=$1 target=$2 map
    say "building $name in $source"
    # Folders become names that are the same everywhere. Registry paths keep their end (…/solana-message-4.4.1/src/lib.rs):
    # by it the plugin and `heliograph plugin check` compare versions.
    map="$target=/build $source=/heliograph $cargo_home=/cargo $sysroot=/rust"
    local rust= c= pair
    for pair in $map; do
        # rustc and the C compilers take the last mapping that fits, so the more special ones come last.
        rust="--remap-path-prefix=$pair${rust:+ $rust}"
        c="-ffile-prefix-map=$pair${c:+ $c}"
    done
    # Nothing of the caller's own flags gets in.
    env -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_RUSTFLAGS \
        RUSTFLAGS="$rust" CFLAGS="$c" CXXFLAGS="$c" \
        CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$target" LC_ALL=C TZ=UTC \
        cargo build --manifest-path "$source/Cargo.toml" --locked --release -p geyser-plugin --lib >&2 ||
        fail "the build failed: the lines above say where"
}

# Takes the debug information apart: the library stays small, and .comment stays in it (the host check reads it).
split() {
    local built=$1 to=$2
    install -m 0644 "$built" "$to"
    command -v objcopy >/dev/null || { say "objcopy (package binutils) is missing: debug information stays inside"; return; }
    objcopy --only-keep-debug "$to" "$to.debug"
    objcopy --strip-debug --remove-section=.gnu_debuglink "$to"
    # By name alone: the folder it is built in must not be in it.
    (cd "$(dirname "$to")" && objcopy --add-gnu-debuglink="$(basename "$to.debug")" "$(basename "$to")")
}

target=${CARGO_TARGET_DIR:-$out/target}
compile "$root" "$target"
split "$target/release/libgeyser_plugin.so" "$out/$name"
(cd "$out" && sha256sum "$name" > SHA256SUMS)

if [ -n "$twice" ]; then
    other=$(mktemp -d)
    trap 'rm -rf "$other"' EXIT
    mkdir "$other/sources"
    git -C "$root" diff --quiet HEAD || say "the working directory has changes that the copy will not have"
    git -C "$root" archive HEAD | tar -x -C "$other/sources"
    compile "$other/sources" "$other/target"
    mkdir "$other/out"
    split "$other/target/release/libgeyser_plugin.so" "$other/out/$name"
    if ! cmp -s "$out/$name" "$other/out/$name"; then
        cp "$other/out/$name" "$out/$name.second"
        fail "the two builds differ: compare $out/$name with $out/$name.second (diffoscope)" 3
    fi
    say "a second build in another folder has the same bytes"
fi

printf '%s\n' "$rustc"
printf 'size    %s bytes\n' "$(stat -c %s "$out/$name")"
printf 'sha256  %s\n' "$(cat "$out/SHA256SUMS")"
