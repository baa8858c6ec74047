#include <Python.h>

#include "../cpu/levels.h"

// Importing this module registers the ops. Beyond that it only tells which instruction-set level is in use.
namespace {

PyObject* simd_level(PyObject*, PyObject*) { return PyUnicode_FromString(sd::cpu::kernels().name); }

PyMethodDef methods[] = {{"simd_level", simd_level, METH_NOARGS, "Name of the instruction-set level in use."},
                         {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_C", "Native operators of splatdistill.", -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
