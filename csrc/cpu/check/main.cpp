#include "check.h"

// Runs every CPU kernel on seeded inputs at every instruction-set level of this processor. Exit code 0: all agree. 1:
// not. 2: the arguments were wrong. `--plant KERNEL` changes one result of that kernel, which must then fail.
int main(int argc, char** argv) {
  using namespace sd;
  const bool plants = argc == 3 && std::strcmp(argv[1], "--plant") == 0;
  if (argc != 1 && !plants) {
    std::fprintf(stderr, "usage: %s [--plant KERNEL]\n", argv[0]);
    return 2;
  }
  check::Check check(plants ? argv[2] : "");
  const cpu::SimdLevels all = cpu::simd_levels();
  const cpu::Kernels& generic = all.list[all.count - 1].kernels;
  for (int i = all.count - 1; i >= 0; --i) {  // generic first: the others are compared with it
    const cpu::SimdLevel& level = all.list[i];
    if (!level.available) {
      std::printf("%-10s not on this processor\n", level.kernels.name);
      continue;
    }
    const int64_t before = check.failures, compared = check.comparisons;
    check.closest = 0.0;
    for (const auto run : check::EachSimdLevel::all()) run(check, level.kernels, generic);
    std::printf("%-10s %lld comparisons, %lld failed, largest error %.2f of its bound\n", level.kernels.name,
                static_cast<long long>(check.comparisons - compared), static_cast<long long>(check.failures - before),
                check.closest);
  }
  for (const auto run : check::Once::all()) run(check);
  std::printf("in use: %s; %lld comparisons, %lld failed\n", cpu::kernels().name,
              static_cast<long long>(check.comparisons), static_cast<long long>(check.failures));
  if (!check.knows_plant()) {
    std::fprintf(stderr, "there is no kernel %s to plant a fault in\n", argv[2]);
    return 2;
  }
  return check.failures == 0 ? 0 : 1;
}
