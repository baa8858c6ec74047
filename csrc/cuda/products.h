#pragma once

#include "../common/products.h"
#include "stream.h"

// Sums and products of terms on the current device. Nothing here waits or allocates; what is returned is null, or what
// is wrong.
namespace sd::cuda {

const char* products(const ProductArgs& args, Stream stream);

}  // namespace sd::cuda
