#pragma once

#include "../common/gram.h"
#include "stream.h"

// Sums and Gram matrix of terms on the current device. Nothing here waits or allocates; what is returned is null, or
// what is wrong.
namespace sd::cuda {

const char* gram(const GramArgs& args, Stream stream);

}  // namespace sd::cuda
