#pragma once

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../common/residual.h"
#include "tensors.h"

// The operators of the residual, for any backend: it runs what is asked of it and knows how much memory that takes.
namespace sd::bind {

// `t` if it is a contiguous tensor of a type the kernels read, with the sizes of x0.
inline Source source_of(const Tensor& t, const Tensor& x0, const char* name) {
  STD_TORCH_CHECK(t.numel() == x0.numel() && t.dim() >= 1 && t.size(0) == x0.size(0), name, " must be like x0");
  STD_TORCH_CHECK(t.device() == x0.device() && t.is_contiguous(), name, " must be contiguous and on the device of x0");
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

inline int64_t view_size(const Tensor& x0) { return x0.size(0) > 0 ? x0.numel() / x0.size(0) : 0; }

template <class Backend, class T>
std::tuple<Tensor, Tensor, Tensor, Tensor> run_residual(const Source& source, const Tensor& x0,
                                                        const std::vector<Tensor>& terms, const Tensor& coef,
                                                        const Tensor& weight, double clamp, int64_t total_views) {
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = x0.size(0);
  Tensor loss = allocate<T>(x0, {}), norms = allocate<T>(x0, {views}), count = allocate<int64_t>(x0, {}),
         grad = torch::stable::empty_like(x0);
  const int64_t num_sums = Backend::residual_workspace(views, view_size(x0));
  Tensor workspace = allocate<int64_t>(x0, {num_sums * static_cast<int64_t>(sizeof(ResidualSums) / sizeof(int64_t))});
  ResidualArgs args = {source,
                       {},
                       checked<T>(coef, "coef", {num_terms, views}, x0.device()),
                       checked<T>(weight, "weight", {views}, x0.device()),
                       static_cast<int>(num_terms),
                       views,
                       view_size(x0),
                       clamp,
                       1.0 / static_cast<double>(total_views),
                       grad.mutable_data_ptr(),
                       loss.mutable_data_ptr(),
                       norms.mutable_data_ptr(),
                       data<int64_t>(count),
                       data<ResidualSums>(workspace)};
  for (size_t k = 0; k < terms.size(); ++k) args.terms[k] = source_of(terms[k], x0, "every term");
  Backend::residual(args, x0);
  return {loss, norms, count, grad};
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor, Tensor> residual_forward(const Tensor& x0, const std::vector<Tensor>& terms,
                                                            const Tensor& coef, const Tensor& weight,
                                                            std::optional<double> clamp, int64_t total_views) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  const Source source = source_of(x0, x0, "x0");
  const double limit = clamp.value_or(std::numeric_limits<double>::infinity());
  const auto run = source.dtype == Dtype::kDouble ? run_residual<Backend, double> : run_residual<Backend, float>;
  return run(source, x0, terms, coef, weight, limit, total_views);
}

template <class Backend>
Tensor noising_forward(const Tensor& x0, const Tensor& eps, const Tensor& alpha, const Tensor& sigma) {
  const Source source = source_of(x0, x0, "x0");
  const auto per_view = [&](const Tensor& t, const char* name) -> const void* {
    if (source.dtype == Dtype::kDouble) return checked<double>(t, name, {x0.size(0)}, x0.device());
    return checked<float>(t, name, {x0.size(0)}, x0.device());
  };
  Tensor noised = torch::stable::empty_like(x0);
  Backend::noising({source, source_of(eps, x0, "eps"), per_view(alpha, "alpha"), per_view(sigma, "sigma"), x0.size(0),
                    view_size(x0), noised.mutable_data_ptr()},
                   x0);
  return noised;
}

template <class Library>
void define_residual(Library& m) {
  m.def(
      "residual_forward(Tensor x0, Tensor[] terms, Tensor coef, Tensor weight, float? clamp, int total_views) -> "
      "(Tensor loss, Tensor norms, Tensor num_nonfinite, Tensor grad)");
  m.def("noising_forward(Tensor x0, Tensor eps, Tensor alpha, Tensor sigma) -> Tensor");
}

template <class Backend, class Library>
void implement_residual(Library& m) {
  m.impl("residual_forward", TORCH_BOX(&residual_forward<Backend>));
  m.impl("noising_forward", TORCH_BOX(&noising_forward<Backend>));
}

}  // namespace sd::bind
