#include "residual.h"

#include "../cpu/levels.h"

namespace sd::bind {
namespace {

struct Cpu {
  static int64_t residual_workspace(int64_t num_views, int64_t view_size) { return num_views * num_chunks(view_size); }
  static void residual(const ResidualArgs& args, const Tensor&) { cpu::kernels().residual(args, num_threads()); }
  static void noising(const NoisingArgs& args, const Tensor&) { cpu::kernels().noising(args, num_threads()); }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) { define_residual(m); }

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { implement_residual<Cpu>(m); }

}  // namespace sd::bind
