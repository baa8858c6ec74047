#include "levels.h"

#include <cstdlib>
#include <cstring>

SD_DECLARE_LEVEL(generic)
#if defined(SD_X86_LEVELS)
SD_DECLARE_LEVEL(x86_64_v3)
SD_DECLARE_LEVEL(x86_64_v4)
#endif

namespace sd::cpu {
namespace {

#define SD_KERNELS(level)                                              \
  {                                                                    \
      #level,          level::project,        level::fill_tile_row,    \
      level::blend,    level::blend_backward, level::project_backward, \
      level::residual, level::noising,        level::products}

struct Level {
  Kernels kernels;
  bool available;
};

const Kernels& choose() {
  // Best first.
  static const Level levels[] = {
#if defined(SD_X86_LEVELS)
      {SD_KERNELS(x86_64_v4), __builtin_cpu_supports("x86-64-v4") != 0},
      {SD_KERNELS(x86_64_v3), __builtin_cpu_supports("x86-64-v3") != 0},
#endif
      {SD_KERNELS(generic), true},
  };
  const char* wanted = std::getenv("SPLATDISTILL_SIMD");
  for (const Level& level : levels)
    if (level.available && (!wanted || std::strcmp(wanted, level.kernels.name) == 0)) return level.kernels;
  return levels[sizeof levels / sizeof levels[0] - 1].kernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace sd::cpu
