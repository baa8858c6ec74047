#include "densify.h"

#include "../cpu/densify.h"
#include "densify_memory.h"

namespace sd::bind {
namespace {

struct Cpu {
  static void accumulate(const StatisticsArgs& args, const Tensor&) { cpu::densify_accumulate(args, num_threads()); }

  static void classify(const ClassifyArgs& args, const float*, int8_t* kind, int64_t* counts, const Tensor&) {
    cpu::densify_classify(args, kind, counts, num_threads());
  }

  // Uninitialised tensors like those of `tensors`, with num_out rows, side by side in memory that lives as long as any
  // of them.
  static std::vector<Tensor> allocate_rows(const std::vector<Tensor>& tensors, int64_t num_out) {
    const auto bytes = [&](const Tensor& t) { return (row_bytes(t) * num_out + 63) / 64 * 64; };
    int64_t total = 0;
    for (const Tensor& t : tensors) total += bytes(t);
    const std::shared_ptr<EventMemory> memory = EventMemory::take(tensors[0], total);
    char* next = memory->data();
    std::vector<Tensor> out;
    for (const Tensor& t : tensors) {
      std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end()), strides(t.strides().begin(), t.strides().end());
      sizes[0] = num_out;
      out.push_back(torch::stable::from_blob(next, sizes, strides, t.device(), t.scalar_type(),
                                             [memory](void*) { static_cast<void>(memory); }));
      next += bytes(t);
    }
    return out;
  }

  static void scatter(const ScatterArgs& args, const Tensor&) {
    STD_TORCH_CHECK(cpu::densify_scatter(args, num_threads()), "kind does not lead to num_out rows");
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) { define_densify(m); }

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { implement_densify<Cpu>(m); }

}  // namespace sd::bind
