# Finds every library that Convoy needs. launch/install-dependencies installs them.

set(CMAKE_THREAD_PREFER_PTHREAD ON)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
if(CONVOY_FUZZ)
  return()  # core and dataloader need no more; clang comes without OpenMP
endif()
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(nlohmann_json REQUIRED)
find_package(Boost REQUIRED COMPONENTS program_options)

# The C++ bindings of MPI were removed from the standard; without this they are still searched for.
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI REQUIRED COMPONENTS CXX)

# oneDNN 3 is not in Debian 12: launch/install-dependencies puts it here.
list(APPEND CMAKE_PREFIX_PATH "${PROJECT_SOURCE_DIR}/build/dependencies/onednn")
find_package(dnnl 3.2 CONFIG QUIET)
if(NOT dnnl_FOUND)
  message(FATAL_ERROR "oneDNN 3.2 or later was not found. Run launch/install-dependencies, or give "
                      "its folder with -DCMAKE_PREFIX_PATH=...")
endif()
