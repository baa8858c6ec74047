#include "update.h"

#include "../cpu/densify.h"
#include "../cpu/levels.h"

namespace sd::bind {
namespace {

struct Cpu {
  static void check_gradients(const std::vector<Tensor>& grads, const CheckArgs& args, const Tensor&) {
    bool usable = true;
    for (const Tensor& grad : grads)
      usable = usable && cpu::kernels().usable_gradients(data<float>(grad), grad.numel(), num_threads());
    finish_check(args, usable);
  }

  static void update_splats(const UpdateArgs& args, const StatisticsArgs& statistics, const Tensor&) {
    cpu::densify_accumulate(statistics, num_threads());
    cpu::kernels().adam(args, num_threads());
  }

  static void count_skip(int64_t* counts, const bool* skipped, bool fresh, const Tensor&) {
    sd::count_skip(counts, *skipped, fresh);
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) { define_update(m); }

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { implement_update<Cpu>(m); }

}  // namespace sd::bind
