#pragma once

#include "../common/residual.h"
#include "stream.h"

// The residual and the noising on the current device. Nothing here waits or allocates; what is returned is null, or
// what is wrong.
namespace sd::cuda {

// Elements of ResidualArgs::sums.
int64_t residual_workspace(int64_t num_views, int64_t view_size);

// In one launch.
const char* residual(const ResidualArgs& args, Stream stream);

const char* noising(const NoisingArgs& args, Stream stream);

}  // namespace sd::cuda
