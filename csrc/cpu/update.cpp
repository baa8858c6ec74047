#include "../common/update.h"

#include "dispatch.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

constexpr int64_t kChunk = 4096;  // elements that a thread takes at a time, a multiple of kAdamEight

void chunk_of(const Learned& t, const AdamFactors& f, int64_t begin, int64_t end) {
  const int64_t whole = t.size - t.size % kAdamEight, middle = end < whole ? end : whole;
  for (int64_t i = begin; i < middle; ++i)
    adam_element(f, true, t.grads[i], t.values[i], t.exp_avgs[i], t.exp_avg_sqs[i]);
  for (int64_t i = middle > begin ? middle : begin; i < end; ++i)
    adam_element(f, false, t.grads[i], t.values[i], t.exp_avgs[i], t.exp_avg_sqs[i]);
}

}  // namespace

bool usable_gradients(const float* grads, int64_t size, [[maybe_unused]] int num_threads) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  int unusable = 0;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1) reduction(+ : unusable)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = chunk * kChunk, end = size - begin < kChunk ? size : begin + kChunk;
    int found = 0;
    for (int64_t i = begin; i < end; ++i) found |= usable_gradient(grads[i]) ? 0 : 1;
    unusable += found;
  }
  return unusable == 0;
}

void adam(const UpdateArgs& a, [[maybe_unused]] int num_threads) {
  if (*a.skip) return;
  for (int i = 0; i < a.num_tensors; ++i) {
    const Learned& t = a.tensors[i];
    const AdamFactors factors = adam_factors(a.settings, t.rate, *a.correction);
    const int64_t chunks = (t.size + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1 && chunks > 1)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = chunk * kChunk;
      chunk_of(t, factors, begin, t.size - begin < kChunk ? t.size : begin + kChunk);
    }
  }
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
