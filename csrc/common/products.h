#pragma once

#include <cstdint>

#include "residual.h"

// Sums of scores and of their products, from which coefficients follow: Perp-Neg's and those of a rescaled guidance.
// All in double, where a product of two floats is exact: what cancels later, such as |a - b|^2, keeps its digits.
// V views, K terms, M elements of a view.
namespace sd {

SD_HD constexpr int num_products(int terms) { return terms + terms * (terms + 1) / 2; }

struct ProductArgs {
  Source terms[kMaxTerms];  // K of [V,M]
  int num_terms;
  int64_t num_views, view_size;
  double* sums;      // [V,K]
  double* products;  // [V,K,K]
  double* chunks;    // workspace [V*num_chunks,num_products(K)]: of each term its sum, then its products from itself on
};

// Where entry `index` of a chunk goes.
SD_HD void put_product(const ProductArgs& a, int64_t view, int index, double value) {
  const int64_t terms = a.num_terms;
  int64_t first = 0;
  while (index > terms - first) index -= static_cast<int>(terms - first++) + 1;
  if (index == 0) {
    a.sums[view * terms + first] = value;
    return;
  }
  const int64_t second = first + index - 1;
  a.products[(view * terms + first) * terms + second] = value;
  a.products[(view * terms + second) * terms + first] = value;
}

}  // namespace sd
