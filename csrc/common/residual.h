#pragma once

#include <cstdint>

#include "macros.h"

// The distillation gradient and the noising of its input. Both compute in double if x0 is double, else in float; other
// tensors may have any of these types. V views, K terms, M elements of a view, in one order of memory for all tensors.
// Files that use it are compiled without contraction: an element is the same bits on every device, and in torch.
namespace sd {

constexpr int kMaxTerms = 8;

enum class Dtype : int8_t { kFloat, kDouble, kHalf, kBFloat16 };

struct Source {
  const void* data;
  Dtype dtype;
};

// What a part of a view adds to the results.
struct ResidualSums {
  double squared;  // |g|^2
  int64_t nonfinite;
};

struct ResidualArgs {
  Source terms[kMaxTerms];  // K of [V,M]
  const void* coef;         // [K,V] of the type computed in, as every void pointer below but grad
  const void* weight;       // [V]
  int num_terms;
  int64_t num_views, view_size;
  double clamp;          // +inf for none
  double inverse_views;  // 1 / V_total
  void* grad;            // [V,M] g / V_total
  Dtype dtype;           // of grad, that of x0
  void* norms;           // [V]
  int64_t* num_nonfinite;
  ResidualSums* sums;  // workspace; [V,num_chunks] of it are the chunks
  uint64_t* ticket;    // CUDA: one word, 0 before and after
};

struct NoisingArgs {
  Source x0, eps;     // [V,M]
  const void* alpha;  // [V] of the type computed in
  const void* sigma;  // [V]
  int64_t num_views, view_size;
  void* noised;  // [V,M] of x0's type
};

constexpr int64_t kResidualChunk = 4096;  // elements: sums do not depend on the number of threads
SD_HD int64_t num_chunks(int64_t view_size) { return (view_size + kResidualChunk - 1) / kResidualChunk; }

template <class T>
struct ResidualElement {
  T value;
  bool finite;
};

// One element of g = clamp(nan0(weight * sum_k coef_k * term_k)); K is a constant so that the loop unrolls.
// `limit` is +inf for no clamp.
template <int K, class T>
SD_HD ResidualElement<T> residual_element(const T* const* terms, int64_t index, const T* coef, T weight, T limit) {
  constexpr T kLargest = sizeof(T) == 4 ? T(__FLT_MAX__) : T(__DBL_MAX__);
  T sum = coef[0] * terms[0][index];
  for (int k = 1; k < K; ++k) sum += coef[k] * terms[k][index];
  const T raw = weight * sum;
  const bool finite = raw >= -kLargest && raw <= kLargest;
  const T kept = finite ? raw : T(0);
  const T upper = kept < limit ? kept : limit;
  return {upper > -limit ? upper : -limit, finite};
}

// One element of x_t.
template <class T>
SD_HD T noised_element(T x0, T eps, T alpha, T sigma) {
  return alpha * x0 + sigma * eps;
}

}  // namespace sd
