#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#define SD_KERNEL_ENTRY(result, name, parameters) , name
#define SD_SIMD_LEVEL_TABLE(level)                                 \
  SD_DECLARE_SIMD_LEVEL(level)                                     \
  namespace sd::cpu::level {                                       \
  constexpr Kernels kTable = {#level SD_KERNELS(SD_KERNEL_ENTRY)}; \
  }

SD_SIMD_LEVEL_TABLE(generic)
#if defined(SD_X86_LEVELS)
SD_SIMD_LEVEL_TABLE(x86_64_v3)
SD_SIMD_LEVEL_TABLE(x86_64_v4)
#elif defined(SD_ARM_LEVELS)
SD_SIMD_LEVEL_TABLE(neon)
#endif

namespace sd::cpu {
namespace {

const Kernels& choose() {
  const SimdLevels all = simd_levels();
  const char* wanted = std::getenv("SPLATDISTILL_SIMD");
  for (int i = 0; i < all.count; ++i)
    if (all.list[i].available && (!wanted || !*wanted || std::strcmp(wanted, all.list[i].kernels.name) == 0))
      return all.list[i].kernels;
  return all.list[all.count - 1].kernels;
}

#if defined(SD_X86_LEVELS)
#if defined(__clang__)
// Older ones know features alone. What else is in a level is in every processor that has these.
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_v3() { return __builtin_cpu_supports("x86-64-v3") != 0; }
bool has_v4() { return __builtin_cpu_supports("x86-64-v4") != 0; }
#endif
#endif

}  // namespace

SimdLevels simd_levels() {
  static const SimdLevel list[] = {
#if defined(SD_X86_LEVELS)
      {x86_64_v4::kTable, has_v4()},
      {x86_64_v3::kTable, has_v3()},
#elif defined(SD_ARM_LEVELS)
      {neon::kTable, true},  // every 64-bit ARM has it
#endif
      {generic::kTable, true},
  };
  return {list, sizeof list / sizeof list[0]};
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace sd::cpu
