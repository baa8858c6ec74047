#pragma once

#include "../common/densify.h"
#include "../common/update.h"
#include "stream.h"

// The end of a step on the current device, in two launches and one for the counts. Nothing here waits or allocates;
// what is returned is null, or what is wrong.
namespace sd::cuda {

// Gradients that are looked at together.
struct Gradients {
  const float* data;
  int64_t size;
};

// ticket: one word, 0 before and after.
const char* check_gradients(const Gradients* grads, int num_grads, const CheckArgs& args, uint64_t* ticket,
                            Stream stream);

// The statistics of densify, then Adam unless the step is skipped.
const char* update_splats(const UpdateArgs& args, const StatisticsArgs& statistics, Stream stream);

const char* count_skip(int64_t* counts, const bool* skipped, bool fresh, Stream stream);

}  // namespace sd::cuda
