#include "../cpu/philox.h"

#include "tensors.h"

namespace sd::bind {
namespace {

Tensor philox_normal(int64_t key, const Tensor& ids, int64_t num) {
  STD_TORCH_CHECK(ids.dim() == 1 && num >= 0, "ids must be [N] and num at least 0");
  const int64_t n = ids.size(0);
  Tensor out = allocate<float>(ids, {n, num});
  cpu::philox_normal(static_cast<uint64_t>(key), checked<int64_t>(ids, "ids", {n}), n, num, data<float>(out));
  return out;
}

Tensor philox_words(const Tensor& counter, const Tensor& key) {
  STD_TORCH_CHECK(counter.dim() == 2, "counter must be [N,4]");
  const int64_t n = counter.size(0);
  Tensor out = allocate<int64_t>(counter, {n, 4});
  cpu::philox_words(checked<int64_t>(counter, "counter", {n, 4}), checked<int64_t>(key, "key", {n, 2}), n,
                    data<int64_t>(out));
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
