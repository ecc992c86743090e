# What find_package(Slicer) gives an extension, made up around the real macros of checkouts of Slicer and CTK
# (environment variables SEMISEG_SLICER_SOURCE and SEMISEG_CTK_SOURCE), so that packaging is tested without a build.
set(Slicer_FOUND TRUE)
set(_sources $ENV{SEMISEG_SLICER_SOURCE}/CMake $ENV{SEMISEG_CTK_SOURCE}/CMake)
list(APPEND CMAKE_MODULE_PATH ${_sources})
set(CTK_CMAKE_DIR $ENV{SEMISEG_CTK_SOURCE}/CMake)

set(Slicer_INSTALL_ROOT ./)
set(Slicer_LIB_DIR lib/Slicer-5.12)
foreach(_kind QTSCRIPTEDMODULES QTLOADABLEMODULES CLIMODULES)
  string(REPLACE "QTSCRIPTEDMODULES" "qt-scripted-modules" _folder ${_kind})
  string(REPLACE "QTLOADABLEMODULES" "qt-loadable-modules" _folder ${_folder})
  string(REPLACE "CLIMODULES" "cli-modules" _folder ${_folder})
  set(Slicer_${_kind}_LIB_DIR ${Slicer_LIB_DIR}/${_folder})
  set(Slicer_INSTALL_${_kind}_LIB_DIR ${Slicer_INSTALL_ROOT}${Slicer_${_kind}_LIB_DIR})
endforeach()

set(Slicer_USE_PYTHONQT ON)
set(Slicer_LAUNCHER_EXECUTABLE ${CMAKE_COMMAND} -E echo)
set(Slicer_PYTHON_MODULE_TEST_TEMPLATES_DIR $ENV{SEMISEG_SLICER_SOURCE}/Base/QTCore/Testing/Python)
set(Slicer_ExternalData_DATA_MANAGEMENT_TARGET SemiSegTestData)
set(PYTHONINTERP_FOUND TRUE)
set(PYTHONLIBS_FOUND TRUE)
set(PYTHON_EXECUTABLE $ENV{SEMISEG_PYTHON_EXECUTABLE})
set(PYTHON_LIBRARIES ${PYTHON_EXECUTABLE})

set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
