# Language level, warnings and instruction set: one interface target that every Convoy target links.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_EXTENSIONS OFF)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

add_library(convoy_defaults INTERFACE)
target_compile_features(convoy_defaults INTERFACE cxx_std_20)
target_include_directories(convoy_defaults INTERFACE "${PROJECT_SOURCE_DIR}")
# x86-64-v3 is AVX2 with FMA: the whole program needs it. oneDNN picks wider instructions by itself at
# run time. Our own loops are limited by memory: wider registers would gain nothing.
target_compile_options(convoy_defaults INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-march=x86-64-v3 -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms on std::string in g++ 12 (GCC bug 105651).
  target_compile_options(convoy_defaults INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(CONVOY_WARNINGS_AS_ERRORS)
  target_compile_options(convoy_defaults INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(CONVOY_SANITIZE)
  target_compile_options(convoy_defaults INTERFACE
    -fsanitize=${CONVOY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    # g++ does not see what is set after the sanitizers' checks.
    -Wno-maybe-uninitialized)
  target_link_options(convoy_defaults INTERFACE -fsanitize=${CONVOY_SANITIZE})
endif()
if(CONVOY_FUZZ)
  target_compile_options(convoy_defaults INTERFACE -fsanitize=fuzzer-no-link)
endif()

# convoy_add_library(NAME SOURCES...): adds a static library with the defaults applied; a folder is one.
# Its own code says every conversion that may change a number or its sign.
function(convoy_add_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC convoy_defaults)
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wconversion -Wsign-conversion>)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# convoy_add_cuda_part(NAME SOURCES...): adds a folder's part of the CUDA module, which
# launch/CMakeLists.txt links.
function(convoy_add_cuda_part name)
  add_library(${name} OBJECT ${ARGN})
  target_link_libraries(${name} PUBLIC convoy_core CUDA::cudart)
  set_target_properties(${name} PROPERTIES
    POSITION_INDEPENDENT_CODE ON CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
  # constexpr functions of core/ (random numbers, bf16) run in kernels too.
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr
    -Xcompiler=-march=x86-64-v3,-Wall,-Wextra,-Wno-missing-field-initializers,-Wno-unknown-pragmas>)
  # fmt 9 believes that nvcc knows no constexpr.
  target_compile_definitions(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>)
  if(CONVOY_WARNINGS_AS_ERRORS)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
  endif()
endfunction()
