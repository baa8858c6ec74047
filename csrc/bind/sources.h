#pragma once

#include "../common/residual.h"
#include "tensors.h"

// Tensors of [V,...] as the kernels of scores read them.
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
  // Contiguous tensors need no look at each stride, which takes a call of torch.
  const bool plain = t.is_contiguous() && like.is_contiguous();
  STD_TORCH_CHECK(plain || t.numel() == 0 || (same_order(t, like) && views_are_dense(t)), name,
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

}  // namespace sd::bind
