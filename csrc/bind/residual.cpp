#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../common/residual.h"
#include "../cpu/levels.h"
#include "tensors.h"

namespace sd::bind {
namespace {

using namespace sd::cpu;

template <class T>
std::tuple<Tensor, Tensor, Tensor, Tensor> run(const Tensor& x0, const std::vector<Tensor>& terms, const Tensor& coef,
                                               const Tensor& weight, double clamp, int64_t total_views) {
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = x0.size(0);
  const int64_t view_size = views > 0 ? x0.numel() / views : 0;
  std::vector<const void*> term_data;
  for (const Tensor& term : terms) {
    STD_TORCH_CHECK(term.numel() == x0.numel() && term.size(0) == views && term.is_cpu() && term.is_contiguous() &&
                        term.scalar_type() == dtype_of<T>,
                    "every term must be like x0");
    term_data.push_back(term.data_ptr());
  }
  Tensor loss = allocate<T>(x0, {}), norms = allocate<T>(x0, {views}), count = allocate<int64_t>(x0, {}),
         grad = torch::stable::empty_like(x0);
  std::vector<ResidualSums> workspace(static_cast<size_t>(views * num_chunks(view_size)));
  const ResidualArgs args = {x0.data_ptr(),
                             term_data.data(),
                             checked<T>(coef, "coef", {num_terms, views}),
                             checked<T>(weight, "weight", {views}),
                             static_cast<int>(num_terms),
                             views,
                             view_size,
                             clamp,
                             1.0 / static_cast<double>(total_views),
                             grad.data_ptr(),
                             loss.data_ptr(),
                             norms.data_ptr(),
                             data<int64_t>(count),
                             workspace.data(),
                             num_threads()};
  (dtype_of<T> == ScalarType::Float ? kernels().residual_float : kernels().residual_double)(args);
  return {loss, norms, count, grad};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> residual_forward(const Tensor& x0, const std::vector<Tensor>& terms,
                                                            const Tensor& coef, const Tensor& weight,
                                                            std::optional<double> clamp, int64_t total_views) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  STD_TORCH_CHECK(x0.dim() >= 1 && x0.is_cpu() && x0.is_contiguous(), "x0 must be contiguous and on the CPU");
  const double limit = clamp.value_or(std::numeric_limits<double>::infinity());
  if (x0.scalar_type() == ScalarType::Double) return run<double>(x0, terms, coef, weight, limit, total_views);
  STD_TORCH_CHECK(x0.scalar_type() == ScalarType::Float, "x0 must be float32 or float64");
  return run<float>(x0, terms, coef, weight, limit, total_views);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) {
  m.def(
      "residual_forward(Tensor x0, Tensor[] terms, Tensor coef, Tensor weight, float? clamp, int total_views) -> "
      "(Tensor loss, Tensor norms, Tensor num_nonfinite, Tensor grad)");
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { m.impl("residual_forward", TORCH_BOX(&residual_forward)); }

}  // namespace sd::bind
