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

// `t` if it is a contiguous CPU tensor of a type the kernels read, with the sizes of x0.
Source source_of(const Tensor& t, const Tensor& x0, const char* name) {
  STD_TORCH_CHECK(t.numel() == x0.numel() && t.dim() >= 1 && t.size(0) == x0.size(0), name, " must be like x0");
  STD_TORCH_CHECK(t.is_cpu() && t.is_contiguous(), name, " must be contiguous and on the CPU");
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return {t.data_ptr(), Dtype::kFloat};
    case ScalarType::Double:
      return {t.data_ptr(), Dtype::kDouble};
    case ScalarType::Half:
      return {t.data_ptr(), Dtype::kHalf};
    default:
      STD_TORCH_CHECK(t.scalar_type() == ScalarType::BFloat16, name, " must be a floating-point tensor");
      return {t.data_ptr(), Dtype::kBFloat16};
  }
}

int64_t view_size(const Tensor& x0) { return x0.size(0) > 0 ? x0.numel() / x0.size(0) : 0; }

template <class T>
std::tuple<Tensor, Tensor, Tensor, Tensor> run(const Source& source, const Tensor& x0, const std::vector<Tensor>& terms,
                                               const Tensor& coef, const Tensor& weight, double clamp,
                                               int64_t total_views) {
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = x0.size(0);
  Source sources[kMaxTerms];
  for (size_t k = 0; k < terms.size(); ++k) sources[k] = source_of(terms[k], x0, "every term");
  Tensor loss = allocate<T>(x0, {}), norms = allocate<T>(x0, {views}), count = allocate<int64_t>(x0, {}),
         grad = torch::stable::empty_like(x0);
  std::vector<ResidualSums> workspace(static_cast<size_t>(views * num_chunks(view_size(x0))));
  kernels().residual({source, sources, checked<T>(coef, "coef", {num_terms, views}),
                      checked<T>(weight, "weight", {views}), static_cast<int>(num_terms), views, view_size(x0), clamp,
                      1.0 / static_cast<double>(total_views), grad.data_ptr(), loss.data_ptr(), norms.data_ptr(),
                      data<int64_t>(count), workspace.data(), num_threads()});
  return {loss, norms, count, grad};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> residual_forward(const Tensor& x0, const std::vector<Tensor>& terms,
                                                            const Tensor& coef, const Tensor& weight,
                                                            std::optional<double> clamp, int64_t total_views) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  const Source source = source_of(x0, x0, "x0");
  const double limit = clamp.value_or(std::numeric_limits<double>::infinity());
  return (source.dtype == Dtype::kDouble ? run<double> : run<float>)(source, x0, terms, coef, weight, limit,
                                                                     total_views);
}

Tensor noising(const Tensor& x0, const Tensor& eps, const Tensor& alpha, const Tensor& sigma) {
  const Source source = source_of(x0, x0, "x0");
  const auto per_view = [&](const Tensor& t, const char* name) -> const void* {
    if (source.dtype == Dtype::kDouble) return checked<double>(t, name, {x0.size(0)});
    return checked<float>(t, name, {x0.size(0)});
  };
  Tensor noised = torch::stable::empty_like(x0);
  kernels().noising({source, source_of(eps, x0, "eps"), per_view(alpha, "alpha"), per_view(sigma, "sigma"), x0.size(0),
                     view_size(x0), noised.data_ptr(), num_threads()});
  return noised;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) {
  m.def(
      "residual_forward(Tensor x0, Tensor[] terms, Tensor coef, Tensor weight, float? clamp, int total_views) -> "
      "(Tensor loss, Tensor norms, Tensor num_nonfinite, Tensor grad)");
  m.def("noising_forward(Tensor x0, Tensor eps, Tensor alpha, Tensor sigma) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) {
  m.impl("residual_forward", TORCH_BOX(&residual_forward));
  m.impl("noising_forward", TORCH_BOX(&noising));
}

}  // namespace sd::bind
