#!/bin/sh
# Builds and runs a program against an installed C package, by pkg-config and by CMake, with the
# shared and with the static library: test.sh PREFIX
set -eu

prefix=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kimberlite-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
cc=${CC:-cc}

if command -v pkg-config >/dev/null; then
  # The flags are lists of words.
  # shellcheck disable=SC2046
  "$cc" "$here/example.c" -o "$work/shared" $(pkg-config --cflags --libs kimberlite-ffi) \
    -Wl,-rpath,"$prefix/lib"
  "$work/shared"
  if [ -f "$prefix/lib/libkimberlite_ffi.a" ]; then
    # shellcheck disable=SC2046
    "$cc" "$here/example.c" -o "$work/static" $(pkg-config --cflags kimberlite-ffi) \
      "$prefix/lib/libkimberlite_ffi.a" \
      $(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/kimberlite-ffi.pc")
    "$work/static"
  fi
  echo "pkg-config: passed"
else
  echo "pkg-config is not installed: left out"
fi

if command -v cmake >/dev/null; then
  mkdir "$work/cmake"
  cp "$here/example.c" "$work/cmake/"
  cat >"$work/cmake/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.12)
project(example C)
find_package(kimberlite-ffi 0.1 REQUIRED)
foreach(kind ffi ffi-static)
  if(TARGET kimberlite::${kind})
    add_executable(example-${kind} example.c)
    target_link_libraries(example-${kind} PRIVATE kimberlite::${kind})
  endif()
endforeach()
END
  cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 &&
    cmake --build "$work/cmake/build" >>"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  for program in "$work"/cmake/build/example-*; do "$program"; done
  echo "CMake: passed"
else
  echo "CMake is not installed: left out"
fi
