#include "../common/residual.h"

#include "dispatch.h"
#include "residual_convert.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

constexpr int64_t kBlock = 512;  // elements converted at a time: nine buffers stay in the first cache
constexpr int kSums = 32;        // independent sums, so that the loop vectorises; they add up in a fixed order

// |g|^2
template <class T>
double sum_of_squares(const T* g, int64_t size) {
  T sums[kSums] = {};
  const int64_t whole = size - size % kSums;
  for (int64_t i = 0; i < whole; i += kSums)
    for (int j = 0; j < kSums; ++j) sums[j] += g[i + j] * g[i + j];
  for (int64_t i = whole; i < size; ++i) sums[i - whole] += g[i] * g[i];
  double total = 0.0;
  for (int j = 0; j < kSums; ++j) total += static_cast<double>(sums[j]);
  return total;
}

// `size` elements of one view from `offset` on: writes the gradient and adds to the chunk's sums.
template <int K, class T>
void block(const ResidualArgs& a, const T* coef, T weight, int64_t offset, int64_t size, ResidualSums& sums) {
  T buffers[K][kBlock], g[kBlock], narrowed[kBlock];
  const T* terms[K];
  for (int k = 0; k < K; ++k) terms[k] = load(a.terms[k], offset, size, buffers[k]);
  T* grad = is_native<T>(a.dtype) ? static_cast<T*>(a.grad) + offset : narrowed;
  const T limit = static_cast<T>(a.clamp), scale = static_cast<T>(a.inverse_views);
  int nonfinite = 0;
  for (int64_t i = 0; i < size; ++i) {
    const ResidualElement<T> element = residual_element<K, T>(terms, i, coef, weight, limit);
    nonfinite += element.finite ? 0 : 1;
    g[i] = element.value;
    grad[i] = element.value * scale;
  }
  if (grad == narrowed) narrow(narrowed, a.grad, a.dtype, offset, size);
  sums.squared += sum_of_squares(g, size);
  sums.nonfinite += nonfinite;
}

template <int K, class T>
void all_chunks(const ResidualArgs& a, [[maybe_unused]] int num_threads) {
  const int64_t chunks = num_chunks(a.view_size);
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1)
  for (int64_t index = 0; index < a.num_views * chunks; ++index) {
    const int64_t view = index / chunks, begin = index % chunks * kResidualChunk;
    const int64_t end = a.view_size - begin < kResidualChunk ? a.view_size : begin + kResidualChunk;
    T coef[K];
    for (int k = 0; k < K; ++k) coef[k] = static_cast<const T*>(a.coef)[k * a.num_views + view];
    const T weight = static_cast<const T*>(a.weight)[view];
    ResidualSums sums = {};
    for (int64_t i = begin; i < end; i += kBlock)
      block<K, T>(a, coef, weight, view * a.view_size + i, end - i < kBlock ? end - i : kBlock, sums);
    a.sums[index] = sums;
  }
}

// Adds up the chunks, in order.
template <class T>
void finish(const ResidualArgs& a) {
  const int64_t chunks = num_chunks(a.view_size);
  *a.num_nonfinite = 0;
  for (int64_t view = 0; view < a.num_views; ++view) {
    double squared = 0.0;
    for (int64_t i = view * chunks; i < (view + 1) * chunks; ++i) {
      squared += a.sums[i].squared;
      *a.num_nonfinite += a.sums[i].nonfinite;
    }
    static_cast<T*>(a.norms)[view] = static_cast<T>(__builtin_sqrt(squared));
  }
}

template <class T>
void all_terms(const ResidualArgs& a, int num_threads) {
  static_assert(kMaxTerms == 8);
  constexpr void (*kByTerms[])(const ResidualArgs&, int) = {all_chunks<1, T>, all_chunks<2, T>, all_chunks<3, T>,
                                                            all_chunks<4, T>, all_chunks<5, T>, all_chunks<6, T>,
                                                            all_chunks<7, T>, all_chunks<8, T>};
  kByTerms[a.num_terms - 1](a, num_threads);
  finish<T>(a);
}

template <class T>
void noise_views(const NoisingArgs& a, [[maybe_unused]] int num_threads) {
  const int64_t blocks = (a.view_size + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1)
  for (int64_t index = 0; index < a.num_views * blocks; ++index) {
    const int64_t view = index / blocks, begin = index % blocks * kBlock;
    const int64_t size = a.view_size - begin < kBlock ? a.view_size - begin : kBlock;
    const int64_t offset = view * a.view_size + begin;
    T buffers[2][kBlock], narrowed[kBlock];
    const T* x0 = load(a.x0, offset, size, buffers[0]);
    const T* eps = load(a.eps, offset, size, buffers[1]);
    const T alpha = static_cast<const T*>(a.alpha)[view], sigma = static_cast<const T*>(a.sigma)[view];
    T* noised = is_native<T>(a.x0.dtype) ? static_cast<T*>(a.noised) + offset : narrowed;
    for (int64_t i = 0; i < size; ++i) noised[i] = noised_element(x0[i], eps[i], alpha, sigma);
    if (noised == narrowed) narrow(narrowed, a.noised, a.x0.dtype, offset, size);
  }
}

}  // namespace

void residual(const ResidualArgs& a, int num_threads) {
  (a.dtype == Dtype::kDouble ? all_terms<double> : all_terms<float>)(a, num_threads);
}

void noising(const NoisingArgs& a, int num_threads) {
  (a.x0.dtype == Dtype::kDouble ? noise_views<double> : noise_views<float>)(a, num_threads);
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
