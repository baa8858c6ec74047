#pragma once

#include <cstdint>

#include "residual.h"

// Sums and Gram matrix of scores, from which coefficients follow: Perp-Neg's and those of a rescaled guidance.
// All in double, where a product of two floats is exact: what cancels later, such as |a - b|^2, keeps its digits.
// V views, K terms, M elements of a view.
namespace sd {

SD_HD constexpr int num_gram_entries(int terms) { return terms + terms * (terms + 1) / 2; }

struct GramArgs {
  Source terms[kMaxTerms];  // K of [V,M]
  int num_terms;
  int64_t num_views, view_size;
  double* sums;    // [V,K]
  double* gram;    // [V,K,K]
  double* chunks;  // workspace [V*num_chunks,num_gram_entries(K)]: of each term its sum, then its row of the matrix
};

// Where entry `index` of a chunk goes.
SD_HD void put_gram_entry(const GramArgs& a, int64_t view, int index, double value) {
  const int64_t terms = a.num_terms;
  int64_t first = 0;
  while (index > terms - first) index -= static_cast<int>(terms - first++) + 1;
  if (index == 0) {
    a.sums[view * terms + first] = value;
    return;
  }
  const int64_t second = first + index - 1;
  a.gram[(view * terms + first) * terms + second] = value;
  a.gram[(view * terms + second) * terms + first] = value;
}

}  // namespace sd
