# Viaduct: `just run` is the main job, `just test` all tests. Settings are name=value words after
# the recipe: `just run gic=2 cpus=4`.

set positional-arguments
set shell := ["bash", "-euo", "pipefail", "-c"]

# The host crates, which `cargo` builds by default; the rest is for the metal target.
metal := "-p viaduct -p hello -p probe -p conformance -p early -p exchange"

# What there is
@_default:
    just --list --unsorted

# The hypervisor (target/viaduct.img; `just build debug` for the debug build) and our guests
build kind="release":
    tools/build {{ kind }}

# Boot the demo: Debian's Linux and two unikernels. machine=raspi4b gic=2 cpus=4 mem=2G bundle=unikernels|FILE linux=PATH initrd=PATH profile=debug append='WORDS'
@run *settings:
    tools/cargo run --quiet -p viaduct-tests --bin run -- "$@"

# gdb on the demo (the debug build), with commands that look into the hypervisor; settings as for `run`, and symbols=hello|FILE
[no-exit-message]
@debug *settings:
    tools/cargo run --quiet -p viaduct-tests --bin debug -- "$@"

# What the hypervisor would make of FILE, a host tree or a bundle; words as for `run`, and board=FILE module@ADDRESS=FILE tree=GUEST
[no-exit-message]
@inspect file *words:
    [ -e "${CARGO_TARGET_DIR:-target}/viaduct.img" ] || tools/build release >&2
    tools/cargo run --quiet -p viaduct-inspect -- "$@"

# All tests, half an hour on two cores with nothing compiled
test: lint unit loom system

# The full matrix as well
test-long: lint unit loom
    tools/cargo test -p viaduct-tests --no-fail-fast --tests -- --test-threads 4 --include-ignored

# Formatting, and clippy for host and metal
lint:
    tools/cargo fmt --all --check
    tools/cargo clippy --quiet --all-targets -- -D warnings
    tools/cargo metal clippy --quiet {{ metal }} -- -D warnings

# Unit and property tests, and the examples in the documentation
unit:
    tools/cargo test --workspace --exclude viaduct-tests --exclude viaduct --exclude viaduct-arch --exclude viaduct-runtime --exclude hello --exclude probe --exclude conformance --exclude early
    tools/cargo test -p viaduct-tests --lib --bins
    tools/cargo test -p viaduct-tests --doc

# Locks and state machines under the model checker
loom:
    #!/usr/bin/env bash
    set -euo pipefail
    export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=false
    tools/cargo test --release -p viaduct-sync --features model --test loom
    tools/cargo test --release -p viaduct-domain --test loom
    tools/cargo test --release -p viaduct-vgic --features model --test loom
    tools/cargo test --release -p viaduct-trace --features model --test loom

# Unit tests under AddressSanitizer: pages, tables, rings, what is shared with guests. Wants a nightly toolchain (`just asan NAME`); PROPTEST_CASES=N for more cases of a property than 32
asan nightly="nightly":
    #!/usr/bin/env bash
    set -euo pipefail
    host=$(rustc +{{ nightly }} -vV | sed -n 's/^host: //p')
    # Pages that tests share live as long as the test program: no leaks.
    export RUSTUP_AUTO_INSTALL=0 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/asan"
    # It is slow: optimized, and fewer cases.
    export CARGO_PROFILE_DEV_OPT_LEVEL=1 PROPTEST_CASES="${PROPTEST_CASES:-32}"
    cargo +{{ nightly }} test -p viaduct-memory -p viaduct-sync -p viaduct-xen -p viaduct-xenstore -p viaduct-shell --lib --target "$host"

# System tests, two machines at a time; `just system boot` for one file
system file="*":
    tools/build release
    tools/cargo test -p viaduct-tests --no-fail-fast --test '{{ file }}' -- --test-threads 4

# Runs unikernels with the trace on, and writes what happened: text, summary, timeline (target/trace). seconds=N, and words as for `run`; or file=TRACE elf=FILE
@trace *settings:
    [ -e "${CARGO_TARGET_DIR:-target}/viaduct.elf" ] || tools/build release >&2
    tools/cargo run --quiet -p viaduct-trace-reader -- "$@"

# A Raspberry Pi 4's SD card: target/sdcard/ (copy it) and target/sdcard.img (write it). bundle=unikernels|FILE firmware=DIRECTORY cmdline='WORDS'
@sdcard *settings:
    tools/cargo run --quiet -p viaduct-tests --bin sdcard -- "$@"

# What operations cost in instructions, beside their budgets and Debian's Xen; xen=no, record=yes
@bench *settings:
    tools/build release >&2
    tools/cargo run --quiet -p viaduct-tests --bin bench -- "$@"

# What Linux loses to the hypervisor below it while it computes, forks, is woken; beside the bare machine and Debian's Xen; xen=no, gic=2
@steady *settings:
    tools/build release >&2
    tools/cargo run --quiet -p viaduct-tests --bin steady -- "$@"

# Debian's arm64 kernel, an initramfs and the Pi 4's tree (target/guests/linux); `refresh`, or `sid cloud-arm64`
guests-linux *how:
    guests/linux/fetch {{ how }}

# Formats all code
fmt:
    tools/cargo fmt --all

# The documentation of the crates
doc:
    tools/cargo doc --no-deps --document-private-items
    tools/cargo metal doc --no-deps {{ metal }} -p viaduct-arch -p viaduct-runtime

# Disassembly of the hypervisor, and the size of its parts
dump kind="release": (build kind)
    llvm-objdump -d --no-show-raw-insn --demangle target/viaduct{{ if kind == "release" { "" } else { "-" + kind } }}.elf > target/viaduct.asm
    llvm-size -A target/viaduct{{ if kind == "release" { "" } else { "-" + kind } }}.elf
    @echo target/viaduct.asm

# Removes everything that was built; Debian's packages stay in the cache
clean:
    rm -rf target
