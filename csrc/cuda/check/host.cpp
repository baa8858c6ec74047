// The check where there is no CUDA: the shipped kernels as loops.
#include "host_primitives.h"
// After the algorithms that they call.
#include "../densify.cu"
#include "../products.cu"
#include "../residual.cu"
#include "../update.cu"
#include "main.cu"
