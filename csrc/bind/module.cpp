#include <Python.h>

#include "../cpu/dispatch.h"
#if defined(SD_WITH_CUDA)
#include "../cuda/densify.h"
#endif

// Importing this module registers the ops. Beyond that it only tells what it can do.
namespace {

PyObject* simd_level(PyObject*, PyObject*) { return PyUnicode_FromString(sd::cpu::kernels().name); }

// Worst first.
PyObject* simd_levels(PyObject*, PyObject*) {
  const sd::cpu::SimdLevels all = sd::cpu::simd_levels();
  PyObject* names = PyList_New(all.count);
  if (!names) return nullptr;
  for (int i = 0; i < all.count; ++i) {
    PyObject* name = PyUnicode_FromString(all.list[all.count - 1 - i].kernels.name);
    if (!name || PyList_SetItem(names, i, name) != 0) {
      Py_DECREF(names);
      return nullptr;
    }
  }
  return names;
}

PyObject* has_cuda(PyObject*, PyObject*) {
#if defined(SD_WITH_CUDA)
  Py_RETURN_TRUE;
#else
  Py_RETURN_FALSE;
#endif
}

PyObject* cuda_error(PyObject*, PyObject* index) {
  const long device = PyLong_AsLong(index);
  if (device == -1 && PyErr_Occurred()) return nullptr;
#if defined(SD_WITH_CUDA)
  const char* error = sd::cuda::kernels_unusable(static_cast<int>(device));
  if (!error) Py_RETURN_NONE;
  return PyUnicode_FromString(error);
#else
  return PyUnicode_FromString("no CUDA kernels are built in");
#endif
}

PyMethodDef methods[] = {{"simd_level", simd_level, METH_NOARGS, "Name of the instruction-set level in use."},
                         {"simd_levels", simd_levels, METH_NOARGS, "Names of those compiled, worst first."},
                         {"has_cuda", has_cuda, METH_NOARGS, "Whether CUDA kernels are built in."},
                         {"cuda_error", cuda_error, METH_O, "None, or why the CUDA device of that index runs none."},
                         {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_C", "Native operators of splatdistill.", -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
