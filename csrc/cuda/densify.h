#pragma once

#include <cstddef>

#include "../common/densify.h"
#include "stream.h"

// Densify on the current device: the same masks, order and bytes as on a CPU. Nothing here waits or allocates; what is
// returned is null, or what is wrong. N is below 2^30.
namespace sd::cuda {

// Null, or why the device of that index runs none of the kernels of this folder: they are all compiled alike.
const char* kernels_unusable(int device);

const char* densify_accumulate(const StatisticsArgs& args, Stream stream);

size_t classify_workspace(int64_t n);

// kind: [N]. counts: splats of each kind, [kSplatKinds]. grow_gradient: one number on the device that replaces the
// threshold's, or null.
const char* densify_classify(const ClassifyArgs& args, const float* grow_gradient, int8_t* kind, int64_t* counts,
                             void* workspace, Stream stream);

size_t scatter_workspace(int64_t n);

// Writes nothing beyond num_out rows, whatever `kind` says.
const char* densify_scatter(const ScatterArgs& args, void* workspace, Stream stream);

}  // namespace sd::cuda
