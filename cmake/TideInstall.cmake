# Headers, libraries, pkg-config and CMake files, Lua files and modules, the command.
include(CMakePackageConfigHelpers)

if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/csrc/include/tidemill)
  install(DIRECTORY csrc/include/tidemill DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
endif()
install(TARGETS tidemill_static tidemill_shared EXPORT tidemillTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

# Found from where the file lies, so that `cmake --install --prefix` and DESTDIR need no new configuration.
file(RELATIVE_PATH TIDE_PC_UP /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/tidemill.pc.in ${CMAKE_BINARY_DIR}/tidemill.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tidemill.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tidemill)
install(EXPORT tidemillTargets NAMESPACE tidemill:: DESTINATION ${package_dir})
configure_package_config_file(cmake/tidemillConfig.cmake.in ${CMAKE_BINARY_DIR}/tidemillConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/tidemillConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/tidemillConfig.cmake ${CMAKE_BINARY_DIR}/tidemillConfigVersion.cmake
  DESTINATION ${package_dir})

# Where the Lua interpreters look: share/lua/X and lib/lua/X under their prefix, never a multiarch folder.
foreach(pair "lua54|5.4" "luajit|5.1")
  string(REPLACE "|" ";" pair "${pair}")
  list(GET pair 0 suffix)
  list(GET pair 1 version)
  if(TARGET tidemill_${suffix})
    install(TARGETS tidemill_${suffix} LIBRARY DESTINATION lib/lua/${version}/tidemill)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/lua/tidemill)
      install(DIRECTORY lua/tidemill DESTINATION ${CMAKE_INSTALL_DATADIR}/lua/${version}
        FILES_MATCHING PATTERN "*.lua")
    endif()
  endif()
endforeach()
if(TARGET tidemill_cli)
  install(TARGETS tidemill_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
