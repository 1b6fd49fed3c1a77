#!/bin/sh
# The C tests of the C ABI.
#
#   tests/c/run.sh [PROFILE [MODE...]]
#
# PROFILE: dev (the default) or fast. MODE:
#   header    the header alone, as C99 and C++17, with every warning an error
#   symbols   the library exports what spec/api.toml lists, and the tests call every bit of it
#   plain     the tests as they are, and the example
#   valgrind  under Valgrind: no error, nothing lost
#   asan      the tests compiled with AddressSanitizer and UndefinedBehaviorSanitizer
#   panic     against a library built with forced panics
# Without a mode all of them run. KIMBERLITE_SERVER=PATH names a server binary to test against too,
# KIMBERLITE_SERVER=none leaves the server out; else it is built.
set -eu
# Cargo names its own folders here for what it runs, which would come before each program's own.
unset LD_LIBRARY_PATH

profile=${1:-dev}
[ $# -gt 0 ] && shift
modes=${*:-header symbols plain valgrind asan panic}

here=$(cd "$(dirname "$0")" && pwd)
crate=$(cd "$here/../.." && pwd)
root=$(cd "$crate/../.." && pwd)
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-$root/target}
case $profile in
  dev) built=$target/debug ;;
  *) built=$target/$profile ;;
esac
work=$(mktemp -d "${TMPDIR:-/tmp}/kimberlite-c.XXXXXX")
server_pid=
cleanup() {
  [ -n "$server_pid" ] && kill "$server_pid" 2>/dev/null && wait "$server_pid" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

warnings="-Wall -Wextra -Wpedantic -Werror"
sources="$here/main.c $here/harness.c $here/library.c $here/connect.c $here/nulls.c $here/data.c
  $here/sql.c $here/arrow.c $here/live.c $here/queue.c $here/process.c"

build_library() {
  (cd "$root" && "$cargo" build --quiet --profile "$profile" -p kimberlite-ffi "$@")
}

# compile OUTPUT LIBRARY-FOLDER COMPILER FLAGS…
compile() {
  output=$1 folder=$2
  shift 2
  # Sources and warnings are lists of words.
  # shellcheck disable=SC2086
  "$@" -std=c11 -D_GNU_SOURCE -g -O1 $warnings -I"$crate" $sources -o "$output" \
    -L"$folder" -lkimberlite_ffi -lpthread -Wl,-rpath,"$folder"
}

start_server() {
  [ -n "$server_pid" ] && return
  server=${KIMBERLITE_SERVER:-}
  [ "$server" = none ] && return
  if [ -z "$server" ]; then
    (cd "$root" && "$cargo" build --quiet --profile "$profile" -p kimberlite-server)
    server=$built/kimberlite-server
  fi
  "$server" --listen 127.0.0.1:0 --data-dir "$work/server" --tenant 1 --dev-token abi-test-token \
    --port-file "$work/port" >"$work/server.log" 2>&1 &
  server_pid=$!
  tries=0
  while [ ! -s "$work/port" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$server_pid" 2>/dev/null; then
      echo "the server did not start:" >&2
      cat "$work/server.log" >&2
      exit 1
    fi
    sleep 0.1
  done
}

# run NAME COMMAND…: in a folder of its own, and against a fresh server where there is one.
run() {
  name=$1
  shift
  echo "--- $name"
  mkdir -p "$work/$name"
  start_server
  if [ -n "$server_pid" ]; then
    "$@" "$work/$name" "127.0.0.1:$(cat "$work/port")" abi-test-token
    kill "$server_pid" && wait "$server_pid" || true
    server_pid=
    rm -rf "$work/server" "$work/port"
  else
    "$@" "$work/$name"
  fi
}

header() {
  echo "--- header"
  printf '#include "kimberlite-ffi.h"\nint main(void) { return kmb_abi_version() == 0; }\n' >"$work/header.c"
  for compiler in gcc clang clang-14; do
    command -v "$compiler" >/dev/null || continue
    # shellcheck disable=SC2086
    "$compiler" -std=c99 $warnings -I"$crate" -c "$work/header.c" -o "$work/header.o"
    # shellcheck disable=SC2086
    "$compiler" -x c++ -std=c++17 $warnings -I"$crate" -c "$work/header.c" -o "$work/header.o"
    echo "compiles as C99 and C++17 with $compiler"
  done
}

symbols() {
  echo "--- symbols"
  build_library
  compile "$work/abi-test" "$built" gcc
  grep -A1 '^\[\[function\]\]' "$root/spec/api.toml" | sed -n 's/^name = "\(.*\)"/\1/p' | sort >"$work/listed"
  nm --dynamic --defined-only "$built/libkimberlite_ffi.so" | awk '{ print $NF }' | sort >"$work/exported"
  nm --undefined-only "$work/abi-test" | awk '{ print $NF }' | sed 's/@.*//' | grep '^kmb_' | sort >"$work/called"
  diff "$work/listed" "$work/exported" || { echo "exports differ from spec/api.toml" >&2; exit 1; }
  diff "$work/listed" "$work/called" || { echo "the tests do not call everything" >&2; exit 1; }
  readelf -d "$built/libkimberlite_ffi.so" | grep -q NODELETE || { echo "the library can be unloaded" >&2; exit 1; }
  echo "$(wc -l <"$work/listed") functions are exported, every one is called, and the library stays loaded"
}

plain() {
  build_library
  compile "$work/abi-test" "$built" gcc
  run plain "$work/abi-test"
  quickstart
  guides
}

# The programs that the guides are cut from do what the guides say.
guides() {
  for guide in connection_pooling compliance_patterns troubleshooting; do
    # shellcheck disable=SC2086
    gcc -std=c11 -g $warnings -I"$crate" "$root/examples/c/$guide.c" -o "$work/$guide" \
      -L"$built" -lkimberlite_ffi -lpthread -Wl,-rpath,"$built"
    "$work/$guide" >"$work/$guide.out" 2>&1 || {
      echo "examples/c/$guide.c failed:" >&2
      cat "$work/$guide.out" >&2
      exit 1
    }
  done
}

# The example works, and a call that fails is told in the library's own words.
quickstart() {
  # shellcheck disable=SC2086
  gcc -std=c11 -g $warnings -I"$crate" "$root/examples/c/quickstart.c" -o "$work/quickstart" \
    -L"$built" -lkimberlite_ffi -Wl,-rpath,"$built"
  # It runs any number of times on one database, and adds its three events to it.
  for count in 3 6; do
    "$work/quickstart" "embedded:$work/quickstart-data" >"$work/quickstart.out"
    grep -q "^verify: valid=true, $count events" "$work/quickstart.out" || {
      echo "the quickstart does not find $count events:" >&2
      cat "$work/quickstart.out" >&2
      exit 1
    }
  done
  if "$work/quickstart" 127.0.0.1:1 2>"$work/quickstart.err"; then
    echo "the quickstart connected to nobody" >&2
    exit 1
  fi
  grep -q '^connect: CONNECTION_FAILED: .*127.0.0.1:1' "$work/quickstart.err" || {
    echo "the quickstart does not say why it failed:" >&2
    cat "$work/quickstart.err" >&2
    exit 1
  }
}

under_valgrind() {
  command -v valgrind >/dev/null || { echo "--- valgrind: not installed, left out"; return; }
  build_library
  compile "$work/abi-test" "$built" gcc
  run valgrind valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect --child-silent-after-fork=yes --fair-sched=try "$work/abi-test"
}

asan() {
  clang=$(command -v clang || command -v clang-14 || true)
  [ -n "$clang" ] || { echo "--- asan: no clang, left out"; return; }
  build_library
  compile "$work/abi-test-asan" "$built" "$clang" -fsanitize=address,undefined -fno-sanitize-recover=all
  run asan "$work/abi-test-asan"
}

panic() {
  # Beside the shipped library, so that forced panics never reach it.
  (cd "$root" && "$cargo" build --quiet --profile "$profile" -p kimberlite-ffi --features test-panic \
    --target-dir "$target/test-panic")
  folder=$target/test-panic/${built##*/}
  compile "$work/abi-test-panic" "$folder" gcc -DTEST_PANIC
  run panic env ONLY=panic RUST_BACKTRACE=0 "$work/abi-test-panic"
}

for mode in $modes; do
  case $mode in
    valgrind) under_valgrind ;;
    header | symbols | plain | asan | panic) "$mode" ;;
    *) echo "unknown mode $mode" >&2; exit 2 ;;
  esac
done
