#include "levels.h"

#include <cstdlib>
#include <cstring>

SD_DECLARE_LEVEL(generic)
#if defined(SD_X86_LEVELS)
SD_DECLARE_LEVEL(x86_64_v3)
SD_DECLARE_LEVEL(x86_64_v4)
#elif defined(SD_ARM_LEVELS)
SD_DECLARE_LEVEL(neon)
#endif

namespace sd::cpu {
namespace {

#define SD_KERNELS(level)   \
  {#level,                  \
   level::project,          \
   level::fill_tile_row,    \
   level::blend,            \
   level::blend_backward,   \
   level::project_backward, \
   level::residual,         \
   level::noising,          \
   level::products,         \
   level::usable_gradients, \
   level::adam}

const Kernels& choose() {
  const Levels all = levels();
  const char* wanted = std::getenv("SPLATDISTILL_SIMD");
  for (int i = 0; i < all.count; ++i)
    if (all.list[i].available && (!wanted || !*wanted || std::strcmp(wanted, all.list[i].kernels.name) == 0))
      return all.list[i].kernels;
  return all.list[all.count - 1].kernels;
}

}  // namespace

Levels levels() {
  static const Level list[] = {
#if defined(SD_X86_LEVELS)
      {SD_KERNELS(x86_64_v4), __builtin_cpu_supports("x86-64-v4") != 0},
      {SD_KERNELS(x86_64_v3), __builtin_cpu_supports("x86-64-v3") != 0},
#elif defined(SD_ARM_LEVELS)
      {SD_KERNELS(neon), true},  // every 64-bit ARM has it
#endif
      {SD_KERNELS(generic), true},
  };
  return {list, sizeof list / sizeof list[0]};
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace sd::cpu
