#include "../common/residual.h"

#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

// <a, b> in double, in a fixed order: independent sums, so that the loop vectorises, then the rest.
template <class T>
double inner_product(const T* a, const T* b, int64_t size) {
  constexpr int kLanes = 8;
  double lanes[kLanes] = {}, sum = 0.0;
  const int64_t whole = size - size % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  for (int64_t i = whole; i < size; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (int j = 0; j < kLanes; ++j) sum += lanes[j];
  return sum;
}

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

  T g[kResidualChunk];
  int nonfinite = 0;
  for (int64_t i = 0; i < size; ++i) {
    const ResidualElement<T> element = residual_element<K, T>(terms, i, coef, weight, limit, kLargest);
    nonfinite += element.finite ? 0 : 1;
    g[i] = element.value;
    grad[i] = element.value * scale;
  }
  a.chunks[view * num_chunks(a.view_size) + index] = {inner_product(x0, g, size), inner_product(g, g, size), nonfinite};
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
