#include "products.h"

#include "../cpu/levels.h"

namespace sd::bind {
namespace {

struct Cpu {
  static void products(const ProductArgs& args, const Tensor&) { cpu::kernels().products(args, num_threads()); }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) { define_products(m); }

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { implement_products<Cpu>(m); }

}  // namespace sd::bind
