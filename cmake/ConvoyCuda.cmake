# Finds the CUDA toolkit, cuDNN 9, NCCL 2 and cudnn-frontend, if CONVOY_CUDA asks for them. Sets
# CONVOY_HAS_CUDA; if that is OFF, CONVOY_CUDA_REASON says why. A return() ends this file.

set(CONVOY_CUDA auto CACHE STRING "Build the CUDA backend: auto (if CUDA is found), on or off")
set_property(CACHE CONVOY_CUDA PROPERTY STRINGS auto on off)
set(CONVOY_CUDA_ARCHITECTURES "80;90;100" CACHE STRING
  "Compute capabilities to build kernels for; PTX of the last one too")

set(CONVOY_HAS_CUDA OFF)
set(CONVOY_CUDA_REASON "")

if(CONVOY_SANITIZE OR CONVOY_FUZZ)
  set(CONVOY_CUDA_REASON "not under sanitizers")
  return()
endif()
if(CONVOY_CUDA STREQUAL "off")
  set(CONVOY_CUDA_REASON "CONVOY_CUDA is off")
  return()
endif()

# --- The compiler -----------------------------------------------------------------------------------

find_program(CONVOY_NVCC nvcc
  HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda/bin)
if(NOT CONVOY_NVCC)
  set(CONVOY_CUDA_REASON "no nvcc in PATH or /usr/local/cuda/bin")
  return()
endif()
# Its version is asked for before the language is enabled: that stops with an error if a compiler does
# not know an architecture.
execute_process(COMMAND "${CONVOY_NVCC}" --version OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" nvcc_version "${nvcc_version}")
set(nvcc_version "${CMAKE_MATCH_1}")
if(NOT nvcc_version OR nvcc_version VERSION_LESS 12.8)
  set(CONVOY_CUDA_REASON "${CONVOY_NVCC} is of CUDA ${nvcc_version}, expected 12.8 or newer")
  return()
endif()
set(CMAKE_CUDA_COMPILER "${CONVOY_NVCC}")
# Several architectures, and PTX of the newest for devices that come after it.
list(TRANSFORM CONVOY_CUDA_ARCHITECTURES APPEND "-real" OUTPUT_VARIABLE CMAKE_CUDA_ARCHITECTURES)
list(GET CONVOY_CUDA_ARCHITECTURES -1 newest)
list(APPEND CMAKE_CUDA_ARCHITECTURES "${newest}-virtual")
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
enable_language(CUDA)
# CMake before 3.25.2 does not know that nvcc 12 and later understand C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()

# --- The libraries ----------------------------------------------------------------------------------

find_package(CUDAToolkit REQUIRED)
get_filename_component(toolkit "${CUDAToolkit_LIBRARY_DIR}" DIRECTORY)
foreach(part IN ITEMS cudnn:9 nccl:2)
  string(REPLACE ":" ";" part "${part}")
  list(GET part 0 name)
  list(GET part 1 version)
  string(TOUPPER "${name}" variable)
  find_path(${variable}_INCLUDE_DIR ${name}.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${${variable}_ROOT}
    PATH_SUFFIXES include)
  find_library(${variable}_LIBRARY NAMES ${name} lib${name}.so.${version}
    HINTS ${CUDAToolkit_LIBRARY_DIR} ${toolkit}/lib ${${variable}_ROOT} PATH_SUFFIXES lib lib64)
  if(NOT ${variable}_INCLUDE_DIR OR NOT ${variable}_LIBRARY)
    set(CONVOY_CUDA_REASON "${name} ${version} was not found beside CUDA ${CUDAToolkit_VERSION}; give -D${variable}_ROOT=FOLDER")
    return()
  endif()
  add_library(Convoy::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(Convoy::${name} PROPERTIES
    IMPORTED_LOCATION "${${variable}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${${variable}_INCLUDE_DIR}")
endforeach()
# cudnn-frontend is only headers. launch/install-dependencies puts them here.
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
  HINTS "${PROJECT_SOURCE_DIR}/build/dependencies/cudnn-frontend/include")
if(NOT CUDNN_FRONTEND_INCLUDE_DIR)
  set(CONVOY_CUDA_REASON "cudnn-frontend was not found; run launch/install-dependencies")
  return()
endif()
add_library(Convoy::cudnn_frontend INTERFACE IMPORTED GLOBAL)
set_target_properties(Convoy::cudnn_frontend PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${CUDNN_FRONTEND_INCLUDE_DIR}"
  INTERFACE_LINK_LIBRARIES Convoy::cudnn)
set(CONVOY_HAS_CUDA ON)
