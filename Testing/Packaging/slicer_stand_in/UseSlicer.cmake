# The macros of Slicer and CTK that a scripted module's CMakeLists.txt calls.
include(CTest)
include(ExternalData)
include(ctkFunctionExtractOptimizedLibrary)
include(ctkMacroCompilePythonScript)
include(SlicerMacroPythonTesting)
include(SlicerMacroConfigureGenericPythonModuleTests)
include(SlicerMacroBuildScriptedModule)
