// A kernel with a race, to see that it is found: threads read what others write with no barrier between, within a block
// or, with the word "blocks", from one block to the next.
#include <cstdio>

#include "../../csrc/cuda/launch.h"

namespace {

using namespace sd::cuda;

struct Sums {
  const int* values;
  int* totals;
  bool between_blocks;
};

struct Planted {
  using Args = Sums;
  static constexpr int kThreads = 64, kPhases = 2;
  struct Shared {
    int values[kThreads];
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      s.values[p.thread] = a.values[p.thread];
      if (!a.between_blocks && p.thread < 32) s.values[p.thread] += s.values[p.thread + 32];
    } else if (p.thread == 0) {
      a.totals[a.between_blocks ? 0 : p.block] += s.values[0];
    }
  }
};

}  // namespace

int main(int argc, char**) {
  int values[64] = {}, totals[8] = {};
  launch<Planted>({values, totals, argc > 1}, 8, nullptr);
  std::printf("%d\n", totals[0]);
}
