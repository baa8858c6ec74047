#include "philox.h"

#include "../common/philox.h"

namespace sd::cpu {

void philox_normal(uint64_t key, const int64_t* ids, int64_t n, int64_t num, float* out) {
  for (int64_t i = 0; i < n; ++i, out += num) {
    for (int64_t first = 0; first < num; first += 4) {
      float draws[4];
      philox_normal4(key, static_cast<uint64_t>(ids[i]), static_cast<uint32_t>(first / 4), draws);
      for (int64_t j = first; j < num && j < first + 4; ++j) out[j] = draws[j - first];
    }
  }
}

void philox_words(const int64_t* counter, const int64_t* key, int64_t n, int64_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    PhiloxWords words;
    for (int j = 0; j < 4; ++j) words.v[j] = static_cast<uint32_t>(counter[4 * i + j]);
    words = philox4x32(words, static_cast<uint32_t>(key[2 * i]), static_cast<uint32_t>(key[2 * i + 1]));
    for (int j = 0; j < 4; ++j) out[4 * i + j] = words.v[j];
  }
}

}  // namespace sd::cpu
