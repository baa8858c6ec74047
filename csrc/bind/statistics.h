#pragma once

#include "../common/densify.h"
#include "tensors.h"

namespace sd::bind {

// The statistics of densify, and what a step adds to them.
inline StatisticsArgs statistics_args(const Tensor& grad_sum, const Tensor& count, const Tensor& probe_grad,
                                      const Tensor& radii) {
  STD_TORCH_CHECK(probe_grad.dim() == 3, "probe_grad must be [V,N,2]");
  const int64_t v = probe_grad.size(0), n = probe_grad.size(1);
  const Device device = grad_sum.device();
  return {checked<float>(probe_grad, "probe_grad", {v, n, 2}, device),
          checked<int32_t>(radii, "radii", {v, n, 2}, device),
          v,
          n,
          checked<float>(grad_sum, "grad_sum", {n}, device),
          checked<int64_t>(count, "count", {n}, device)};
}

}  // namespace sd::bind
