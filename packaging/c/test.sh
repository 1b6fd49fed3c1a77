#!/bin/sh
# Builds and runs a program against an installed C package, by pkg-config and by CMake, with the
# shared and with the static library, by the very lines that README.md shows: test.sh PREFIX
set -eu

prefix=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kimberlite-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The lines below name the usual compiler; CC may name another one.
cc() { command "${CC:-cc}" "$@"; }

for name in include/kimberlite-ffi.h lib/libkimberlite_ffi.a lib/pkgconfig/kimberlite-ffi.pc; do
  [ -f "$prefix/$name" ] || { echo "$prefix lacks $name" >&2; exit 1; }
done
cp "$here/example.c" "$work/program.c"
cp "$here/CMakeLists.txt" "$work/"
cd "$work"

# Whether a program needs the shared library when it starts.
needs_library() {
  if command -v readelf >/dev/null; then
    readelf -d "$1" | grep -q libkimberlite_ffi
  elif command -v otool >/dev/null; then
    otool -L "$1" | grep -q libkimberlite_ffi
  else
    [ "$2" = shared ]
  fi
}

runs() {
  "$1"
  if needs_library "$1" "$2"; then found=shared; else found=static; fi
  [ "$found" = "$2" ] || { echo "$1 was linked with the $found library" >&2; exit 1; }
}

if command -v pkg-config >/dev/null; then
  # The flags are lists of words.
  # shellcheck disable=SC2046
  {
    # cut-begin shared
    export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
    cc program.c -o program $(pkg-config --cflags --libs kimberlite-ffi) \
      -Wl,-rpath,"$(pkg-config --variable=libdir kimberlite-ffi)"
    # cut-end
    runs ./program shared
    # cut-begin static
    cc program.c -o program $(pkg-config --cflags --libs kimberlite-ffi-static)
    # cut-end
    runs ./program static
  }
  echo "pkg-config: passed"
else
  echo "pkg-config is not installed: left out"
fi

if command -v cmake >/dev/null; then
  {
    # cut-begin cmake
    cmake -S . -B build -DCMAKE_PREFIX_PATH="$prefix"
    cmake --build build
    # cut-end
  } >log 2>&1 || { cat log; exit 1; }
  runs build/program shared
  runs build/program-static static
  echo "CMake: passed"
else
  echo "CMake is not installed: left out"
fi
