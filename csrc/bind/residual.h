#pragma once

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../common/residual.h"
#include "tensors.h"

// The operators of the residual, for any backend: it runs what is asked of it and knows how much memory that takes.
namespace sd::bind {

inline int64_t view_size(const Tensor& x0) { return x0.size(0) > 0 ? x0.numel() / x0.size(0) : 0; }

// Whether the views of `t` lie one after another, without gaps: element i of a view has one meaning for all tensors
// that are in the same order.
inline bool views_are_dense(const Tensor& t) {
  if (t.numel() == 0) return true;
  int64_t reach = 1;
  for (int64_t dim = 0; dim < t.dim(); ++dim) reach += (t.size(dim) - 1) * t.stride(dim);
  return reach == t.numel() && (t.size(0) == 1 || t.stride(0) == view_size(t));
}

inline bool same_order(const Tensor& a, const Tensor& b) {
  for (int64_t dim = 0; dim < a.dim(); ++dim)
    if (a.size(dim) != b.size(dim) || (a.size(dim) > 1 && a.stride(dim) != b.stride(dim))) return false;
  return true;
}

// `t` if it is a tensor of a type the kernels read, with the sizes of `like` and in its order of memory.
inline Source source_of(const Tensor& t, const Tensor& like, const char* name) {
  STD_TORCH_CHECK(t.dim() == like.dim() && t.dim() >= 1 && t.size(0) == like.size(0) && t.numel() == like.numel(), name,
                  " must have the sizes of the others");
  STD_TORCH_CHECK(t.device() == like.device(), name, " must be on the device of the others");
  STD_TORCH_CHECK(t.numel() == 0 || (same_order(t, like) && views_are_dense(t)), name,
                  " must be dense, its views outermost, in the order of the others");
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

template <class Backend, class T>
std::tuple<Tensor, Tensor, Tensor> run_residual(const Tensor& like, const std::vector<Tensor>& terms,
                                                const Tensor& coef, const Tensor& weight, double clamp,
                                                int64_t total_views) {
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = like.size(0);
  Tensor norms = allocate<T>(like, {views}), count = allocate<int64_t>(like, {}),
         grad = torch::stable::empty_like(like);
  const int64_t num_sums = Backend::residual_workspace(views, view_size(like));
  Tensor workspace = allocate<int64_t>(like, {num_sums * static_cast<int64_t>(sizeof(ResidualSums) / sizeof(int64_t))});
  ResidualArgs args = {{},
                       checked<T>(coef, "coef", {num_terms, views}, like.device()),
                       checked<T>(weight, "weight", {views}, like.device()),
                       static_cast<int>(num_terms),
                       views,
                       view_size(like),
                       clamp,
                       1.0 / static_cast<double>(total_views),
                       grad.mutable_data_ptr(),
                       source_of(grad, like, "the gradient").dtype,
                       norms.mutable_data_ptr(),
                       data<int64_t>(count),
                       data<ResidualSums>(workspace),
                       nullptr};
  for (size_t k = 0; k < terms.size(); ++k) args.terms[k] = source_of(terms[k], like, "every term");
  Backend::residual(args, like);
  return {norms, count, grad};
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> residual_forward(const Tensor& like, const std::vector<Tensor>& terms,
                                                    const Tensor& coef, const Tensor& weight,
                                                    std::optional<double> clamp, int64_t total_views) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  const double limit = clamp.value_or(std::numeric_limits<double>::infinity());
  const bool wide = like.scalar_type() == ScalarType::Double;
  const auto run = wide ? run_residual<Backend, double> : run_residual<Backend, float>;
  return run(like, terms, coef, weight, limit, total_views);
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
      "residual_forward(Tensor like, Tensor[] terms, Tensor coef, Tensor weight, float? clamp, int total_views) -> "
      "(Tensor norms, Tensor num_nonfinite, Tensor grad)");
  m.def("noising_forward(Tensor x0, Tensor eps, Tensor alpha, Tensor sigma) -> Tensor");
}

template <class Backend, class Library>
void implement_residual(Library& m) {
  m.impl("residual_forward", TORCH_BOX(&residual_forward<Backend>));
  m.impl("noising_forward", TORCH_BOX(&noising_forward<Backend>));
}

}  // namespace sd::bind
