#!/bin/sh
# Lays out the C package below a prefix: install.sh PREFIX LIBRARY_FOLDER
# LIBRARY_FOLDER holds what was built: the shared library, the static one, or both.
set -eu

if [ $# -ne 2 ]; then
  echo "usage: $0 PREFIX LIBRARY_FOLDER" >&2
  exit 2
fi
prefix=$1
built=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")

mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/kimberlite-ffi"
cp "$root/crates/kimberlite-ffi/kimberlite-ffi.h" "$prefix/include/"

found=
private_libs="-lm -ldl -lpthread -lgcc_s"
for file in libkimberlite_ffi.so libkimberlite_ffi.a libkimberlite_ffi.dylib kimberlite_ffi.dll.lib \
  libkimberlite_ffi.dll.a kimberlite_ffi.lib; do
  [ -f "$built/$file" ] || continue
  cp "$built/$file" "$prefix/lib/"
  found="$found $file"
  [ "$file" = libkimberlite_ffi.dylib ] && private_libs="-framework CoreFoundation -framework Security"
done
if [ -f "$built/kimberlite_ffi.dll" ]; then
  mkdir -p "$prefix/bin"
  cp "$built/kimberlite_ffi.dll" "$prefix/bin/"
  found="$found kimberlite_ffi.dll"
  private_libs="-lws2_32 -lntdll -luserenv -lbcrypt -ladvapi32 -lcrypt32 -lsecur32 -lncrypt"
fi
if [ -z "$found" ]; then
  echo "$built holds no library of kimberlite-ffi" >&2
  exit 1
fi

fill() { sed -e "s|@VERSION@|$version|" -e "s|@PRIVATE_LIBS@|$private_libs|" "$1"; }
fill "$here/kimberlite-ffi.pc.in" >"$prefix/lib/pkgconfig/kimberlite-ffi.pc"
if [ -f "$prefix/lib/libkimberlite_ffi.a" ]; then
  fill "$here/kimberlite-ffi-static.pc.in" >"$prefix/lib/pkgconfig/kimberlite-ffi-static.pc"
fi
fill "$here/kimberlite-ffi-config-version.cmake.in" \
  >"$prefix/lib/cmake/kimberlite-ffi/kimberlite-ffi-config-version.cmake"
cp "$here/kimberlite-ffi-config.cmake" "$prefix/lib/cmake/kimberlite-ffi/"
echo "installed kimberlite-ffi $version below $prefix:$found"
