# The targets kimberlite::ffi (shared) and kimberlite::ffi-static. Paths are found from this file's
# own, so that the tree may be moved.
get_filename_component(_kimberlite_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_package(Threads REQUIRED)

if(NOT TARGET kimberlite::ffi)
  if(WIN32)
    set(_kimberlite_shared "${_kimberlite_prefix}/bin/kimberlite_ffi.dll")
    set(_kimberlite_static "${_kimberlite_prefix}/lib/kimberlite_ffi.lib")
    set(_kimberlite_system ws2_32 ntdll userenv bcrypt advapi32 crypt32 secur32 ncrypt)
  elseif(APPLE)
    set(_kimberlite_shared "${_kimberlite_prefix}/lib/libkimberlite_ffi.dylib")
    set(_kimberlite_static "${_kimberlite_prefix}/lib/libkimberlite_ffi.a")
    set(_kimberlite_system "-framework CoreFoundation" "-framework Security")
  else()
    set(_kimberlite_shared "${_kimberlite_prefix}/lib/libkimberlite_ffi.so")
    set(_kimberlite_static "${_kimberlite_prefix}/lib/libkimberlite_ffi.a")
    set(_kimberlite_system m dl gcc_s)
  endif()

  if(EXISTS "${_kimberlite_shared}")
    add_library(kimberlite::ffi SHARED IMPORTED)
    set_target_properties(kimberlite::ffi PROPERTIES
      IMPORTED_LOCATION "${_kimberlite_shared}"
      INTERFACE_INCLUDE_DIRECTORIES "${_kimberlite_prefix}/include")
    if(WIN32)
      set_target_properties(kimberlite::ffi PROPERTIES
        IMPORTED_IMPLIB "${_kimberlite_prefix}/lib/kimberlite_ffi.dll.lib")
    endif()
  endif()

  if(EXISTS "${_kimberlite_static}")
    add_library(kimberlite::ffi-static STATIC IMPORTED)
    set_target_properties(kimberlite::ffi-static PROPERTIES
      IMPORTED_LOCATION "${_kimberlite_static}"
      INTERFACE_INCLUDE_DIRECTORIES "${_kimberlite_prefix}/include"
      INTERFACE_LINK_LIBRARIES "Threads::Threads;${_kimberlite_system}")
  endif()

  if(NOT TARGET kimberlite::ffi AND NOT TARGET kimberlite::ffi-static)
    set(kimberlite-ffi_FOUND FALSE)
    set(kimberlite-ffi_NOT_FOUND_MESSAGE
      "neither ${_kimberlite_shared} nor ${_kimberlite_static} exists")
  endif()
endif()
