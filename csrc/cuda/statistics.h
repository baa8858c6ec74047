#pragma once

#include "../common/densify.h"

namespace sd::cuda {

// A thread owns a splat and goes through the views in order: no atomics, and the sum of a CPU to the bit.
SD_HD void add_statistics(const StatisticsArgs& a, int64_t i) {
  if (i >= a.n) return;
  float sum = 0.0f;
  int views = 0;
  for (int64_t view = 0; view < a.num_views; ++view) {
    const float* grad = a.probe_grad + 2 * (view * a.n + i);
    const int32_t* radius = a.radii + 2 * (view * a.n + i);
    const bool seen = radius[0] > 0 && radius[1] > 0;
    sum += seen ? finite_norm(grad[0], grad[1]) : 0.0f;
    views += seen;
  }
  a.grad_sum[i] += sum;
  a.count[i] += views;
}

}  // namespace sd::cuda
