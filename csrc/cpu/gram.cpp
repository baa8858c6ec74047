#include "../common/gram.h"

#include "dispatch.h"
#include "residual_convert.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

constexpr int64_t kBlock = 1024;  // elements converted at a time
constexpr int kSums = 32;         // independent sums, so that the loop vectorises; they add up in a fixed order

// The sum of value(i) for i below `size`.
template <class Value>
double total(int64_t size, Value value) {
  double sums[kSums] = {}, all = 0.0;
  const int64_t whole = size - size % kSums;
  for (int64_t i = 0; i < whole; i += kSums)
    for (int j = 0; j < kSums; ++j) sums[j] += value(i + j);
  for (int64_t i = whole; i < size; ++i) sums[i - whole] += value(i);
  for (const double sum : sums) all += sum;
  return all;
}

// Adds the entries of `size` elements from `offset` on.
void block(const GramArgs& a, int64_t offset, int64_t size, double* entries) {
  double buffers[kMaxTerms][kBlock];
  const double* terms[kMaxTerms];
  for (int k = 0; k < a.num_terms; ++k) terms[k] = load(a.terms[k], offset, size, buffers[k]);
  for (int j = 0; j < a.num_terms; ++j) {
    const double* left = terms[j];
    *entries++ += total(size, [left](int64_t i) { return left[i]; });
    for (int k = j; k < a.num_terms; ++k) {
      const double* right = terms[k];
      *entries++ += total(size, [left, right](int64_t i) { return left[i] * right[i]; });
    }
  }
}

}  // namespace

void gram(const GramArgs& a, [[maybe_unused]] int num_threads) {
  const int64_t chunks = num_chunks(a.view_size);
  const int entries = num_gram_entries(a.num_terms);
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1)
  for (int64_t index = 0; index < a.num_views * chunks; ++index) {
    const int64_t view = index / chunks, begin = index % chunks * kResidualChunk;
    const int64_t end = a.view_size - begin < kResidualChunk ? a.view_size : begin + kResidualChunk;
    double* mine = a.chunks + index * entries;
    for (int i = 0; i < entries; ++i) mine[i] = 0.0;
    for (int64_t i = begin; i < end; i += kBlock)
      block(a, view * a.view_size + i, end - i < kBlock ? end - i : kBlock, mine);
  }
  for (int64_t view = 0; view < a.num_views; ++view) {
    for (int i = 0; i < entries; ++i) {
      double sum = 0.0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += a.chunks[(view * chunks + chunk) * entries + i];
      put_gram_entry(a, view, i, sum);
    }
  }
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
