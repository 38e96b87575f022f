# What `cmake --install` puts into a prefix, which may be moved as a whole: the library, its header
# and license, and what find_package(vlt) and pkg-config read. The wheel takes none of it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The soname follows the ABI, not the release: a program runs with any later library of its ABI.
file(STRINGS cpp/include/vlt.h vlt_abi REGEX "^#define VLT_ABI_VERSION [0-9]+$")
string(REGEX MATCH "[0-9]+$" vlt_abi "${vlt_abi}")
set_target_properties(vlt PROPERTIES SOVERSION ${vlt_abi})
target_include_directories(vlt INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

install(TARGETS vlt EXPORT vlt LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES cpp/include/vlt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The target needs no other package, so the file that defines it is all that find_package reads.
set(vlt_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vlt)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vltConfigVersion.cmake
  COMPATIBILITY SameMajorVersion)
install(EXPORT vlt NAMESPACE vlt:: FILE vltConfig.cmake DESTINATION ${vlt_package_dir})
install(FILES ${PROJECT_BINARY_DIR}/vltConfigVersion.cmake DESTINATION ${vlt_package_dir})

cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
  BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE vlt_prefix)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR
  BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE vlt_includedir)
configure_file(cmake/vlt.pc.in ${PROJECT_BINARY_DIR}/vlt.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/vlt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
