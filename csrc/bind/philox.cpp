#include "../common/philox.h"

#include "tensors.h"

namespace sd::bind {
namespace {

Tensor philox_normal(int64_t key, const Tensor& ids, int64_t num) {
  STD_TORCH_CHECK(ids.dim() == 1 && num >= 0, "ids must be [N] and num at least 0");
  const int64_t n = ids.size(0);
  const int64_t* id = checked<int64_t>(ids, "ids", {n});
  Tensor out = allocate<float>(ids, {n, num});
  float* row = data<float>(out);
  for (int64_t i = 0; i < n; ++i, row += num) {
    for (int64_t first = 0; first < num; first += 4) {
      float draws[4];
      philox_normal4(static_cast<uint64_t>(key), static_cast<uint64_t>(id[i]), static_cast<uint32_t>(first / 4), draws);
      for (int64_t j = first; j < num && j < first + 4; ++j) row[j] = draws[j - first];
    }
  }
  return out;
}

// Rows of four words each, as int64: the generator itself, for known-answer tests. counter [N,4], key [N,2].
Tensor philox_words(const Tensor& counter, const Tensor& key) {
  STD_TORCH_CHECK(counter.dim() == 2, "counter must be [N,4]");
  const int64_t n = counter.size(0);
  const int64_t* c = checked<int64_t>(counter, "counter", {n, 4});
  const int64_t* k = checked<int64_t>(key, "key", {n, 2});
  Tensor out = allocate<int64_t>(counter, {n, 4});
  for (int64_t i = 0; i < n; ++i) {
    PhiloxWords words;
    for (int j = 0; j < 4; ++j) words.v[j] = static_cast<uint32_t>(c[4 * i + j]);
    words = philox4x32(words, static_cast<uint32_t>(k[2 * i]), static_cast<uint32_t>(k[2 * i + 1]));
    for (int j = 0; j < 4; ++j) data<int64_t>(out)[4 * i + j] = words.v[j];
  }
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) {
  m.def("philox_normal(int key, Tensor ids, int num) -> Tensor");
  m.def("philox_words(Tensor counter, Tensor key) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) {
  m.impl("philox_normal", TORCH_BOX(&philox_normal));
  m.impl("philox_words", TORCH_BOX(&philox_words));
}

}  // namespace sd::bind
