#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "sd_build_config.h"  // written by setup.py

// How the extension was built. Needs no torch, so that it can be asked when the operators do not load.
PYBIND11_MODULE(_build_info, m) {
  m.doc() = "How the native extension of splatdistill was built.";
  m.def("build_info", [] {
    pybind11::dict info;
    info["version"] = SD_VERSION;
    info["torch"] = SD_TORCH_VERSION;
    info["compiler"] = SD_COMPILER;
    info["flags"] = SD_FLAGS;
    info["cuda_archs"] = pybind11::str(SD_CUDA_ARCHS).attr("split")();
    return info;
  });
}
