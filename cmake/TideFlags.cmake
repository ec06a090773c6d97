# Warnings, hardening and sanitizers, as one interface target: tide_flags.
# Hardening and sanitizers exclude each other where they must (FORTIFY hides from ASan what it checks itself).
include(CheckCCompilerFlag)

set(TIDE_SANITIZE "" CACHE STRING "empty, or a -fsanitize= list: address,undefined or thread")
option(TIDE_WERROR "Warnings are errors" ON)

add_library(tide_flags INTERFACE)
target_compile_options(tide_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion)
if(TIDE_WERROR)
  target_compile_options(tide_flags INTERFACE -Werror)
endif()

if(TIDE_SANITIZE)
  target_compile_options(tide_flags INTERFACE
    -fsanitize=${TIDE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -U_FORTIFY_SOURCE)
  target_link_options(tide_flags INTERFACE -fsanitize=${TIDE_SANITIZE})
  # Instrumentation makes gcc's flow analysis see paths that don't exist; the plain build keeps these as errors.
  foreach(flag maybe-uninitialized stringop-overflow stringop-overread stringop-truncation array-bounds
          format-truncation restrict tsan)
    string(MAKE_C_IDENTIFIER "TIDE_HAS_W_${flag}" has)
    check_c_compiler_flag(-W${flag} ${has})
    if(${has})
      target_compile_options(tide_flags INTERFACE -Wno-${flag})
    endif()
  endforeach()
else()
  target_compile_options(tide_flags INTERFACE -fstack-protector-strong)
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
    set(TIDE_FORTIFY 3)
  else()
    set(TIDE_FORTIFY 2)
  endif()
  # FORTIFY needs an optimiser; distributions preset it, hence -U first.
  target_compile_options(tide_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug,>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug,>>:-D_FORTIFY_SOURCE=${TIDE_FORTIFY}>)
  target_link_options(tide_flags INTERFACE -Wl,-z,relro -Wl,-z,now)
endif()
