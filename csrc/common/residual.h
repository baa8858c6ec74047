#pragma once

#include "macros.h"

// Files that use it are compiled without contraction: an element is the same bits at every level, and in torch.
namespace sd {

constexpr int kMaxTerms = 8;

template <class T>
struct ResidualElement {
  T value;
  bool finite;
};

// One element of g = clamp(nan0(weight * sum_k coef_k * term_k)); K is a constant so that the loop unrolls.
// `limit` is +inf for no clamp and `largest` the largest finite T.
template <int K, class T>
SD_HD ResidualElement<T> residual_element(const T* const* terms, long long index, const T* coef, T weight, T limit,
                                          T largest) {
  T sum = coef[0] * terms[0][index];
  for (int k = 1; k < K; ++k) sum += coef[k] * terms[k][index];
  const T raw = weight * sum;
  const bool finite = raw >= -largest && raw <= largest;
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
