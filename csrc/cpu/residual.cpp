#include "../common/residual.h"

#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

constexpr int kAccumulators = 8;  // independent sums in a fixed order, so that the loop vectorises

// One chunk of one view: writes the gradient and the chunk's sums.
template <int K, class T>
void chunk(const ResidualArgs& a, int64_t view, int64_t index) {
  constexpr T kLargest = sizeof(T) == 4 ? T(__FLT_MAX__) : T(__DBL_MAX__);
  const int64_t begin = index * kResidualChunk;
  const int64_t size = a.view_size - begin < kResidualChunk ? a.view_size - begin : kResidualChunk;
  const int64_t offset = view * a.view_size + begin;
  const T* terms[K];
  T coef[K];
  for (int k = 0; k < K; ++k) {
    terms[k] = static_cast<const T*>(a.terms[k]) + offset;
    coef[k] = static_cast<const T*>(a.coef)[k * a.num_views + view];
  }
  const T weight = static_cast<const T*>(a.weight)[view];
  const T* x0 = static_cast<const T*>(a.x0) + offset;
  T* grad = static_cast<T*>(a.grad) + offset;
  const T limit = static_cast<T>(a.clamp), scale = static_cast<T>(a.inverse_views);

  double inner[kAccumulators] = {}, squared[kAccumulators] = {};
  int64_t nonfinite = 0;
  for (int64_t i = 0; i < size; ++i) {
    const ResidualElement<T> g = residual_element<K, T>(terms, i, coef, weight, limit, kLargest);
    nonfinite += !g.finite;
    grad[i] = g.value * scale;
    inner[i % kAccumulators] += static_cast<double>(x0[i]) * static_cast<double>(g.value);
    squared[i % kAccumulators] += static_cast<double>(g.value) * static_cast<double>(g.value);
  }
  ResidualSums sums = {0.0, 0.0, nonfinite};
  for (int j = 0; j < kAccumulators; ++j) {
    sums.inner += inner[j];
    sums.squared += squared[j];
  }
  a.chunks[view * num_chunks(a.view_size) + index] = sums;
}

template <int K, class T>
void all_chunks(const ResidualArgs& a) {
  const int64_t chunks = num_chunks(a.view_size);
#pragma omp parallel for schedule(static) num_threads(a.num_threads) if (a.num_threads > 1)
  for (int64_t i = 0; i < a.num_views * chunks; ++i) chunk<K, T>(a, i / chunks, i % chunks);
}

// Adds up the chunks, in order.
template <class T>
void finish(const ResidualArgs& a) {
  const int64_t chunks = num_chunks(a.view_size);
  double inner = 0.0;
  *a.num_nonfinite = 0;
  for (int64_t view = 0; view < a.num_views; ++view) {
    double squared = 0.0;
    for (int64_t i = view * chunks; i < (view + 1) * chunks; ++i) {
      inner += a.chunks[i].inner;
      squared += a.chunks[i].squared;
      *a.num_nonfinite += a.chunks[i].nonfinite;
    }
    static_cast<T*>(a.norms)[view] = static_cast<T>(__builtin_sqrt(squared));
  }
  *static_cast<T*>(a.loss) = static_cast<T>(inner * a.inverse_views);
}

template <class T>
void residual(const ResidualArgs& a) {
  static_assert(kMaxTerms == 8);
  constexpr void (*kByTerms[])(const ResidualArgs&) = {all_chunks<1, T>, all_chunks<2, T>, all_chunks<3, T>,
                                                       all_chunks<4, T>, all_chunks<5, T>, all_chunks<6, T>,
                                                       all_chunks<7, T>, all_chunks<8, T>};
  kByTerms[a.num_terms - 1](a);
  finish<T>(a);
}

}  // namespace

void residual_float(const ResidualArgs& a) { residual<float>(a); }
void residual_double(const ResidualArgs& a) { residual<double>(a); }

}  // namespace sd::cpu::SD_LEVEL
