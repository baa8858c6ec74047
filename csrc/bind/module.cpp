#include <Python.h>

#include "../cpu/levels.h"

// Importing this module registers the ops. Beyond that it only tells what it can do.
namespace {

PyObject* simd_level(PyObject*, PyObject*) { return PyUnicode_FromString(sd::cpu::kernels().name); }

PyObject* has_cuda(PyObject*, PyObject*) {
#if defined(SD_WITH_CUDA)
  Py_RETURN_TRUE;
#else
  Py_RETURN_FALSE;
#endif
}

PyMethodDef methods[] = {{"simd_level", simd_level, METH_NOARGS, "Name of the instruction-set level in use."},
                         {"has_cuda", has_cuda, METH_NOARGS, "Whether CUDA kernels are built in."},
                         {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_C", "Native operators of splatdistill.", -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
