#include "densify.h"

#include "launch.h"
#include "primitives.h"
#include "statistics.h"

namespace sd::cuda {
namespace {

struct StatisticsKernel {
  using Args = StatisticsArgs;
  static constexpr int kThreads = 256, kPhases = 1;
  struct Shared {};

  SD_HD void run(int, const Args& a, Shared&, Place p) { add_statistics(a, p.block * kThreads + p.thread); }
};

// What classify keeps between its kernels, in the workspace.
struct Ranking {
  uint32_t *keys, *sorted_keys;       // [N], 0 for splats that do not want to grow
  int32_t *indices, *sorted_indices;  // [N]
  void* rest;
};

Ranking ranking_in(void* workspace, int64_t n) {
  uint32_t* keys = static_cast<uint32_t*>(workspace);
  int32_t* indices = reinterpret_cast<int32_t*>(keys + 2 * n);
  return {keys, keys + n, indices, indices + n, indices + 2 * n};
}

struct BlockCounts {
  int of_kind[kSplatKinds];
};

// What each splat would become if there were room for all, and how many there are of each kind.
struct ClassifyKernel {
  struct Args {
    ClassifyArgs in;
    const float* grow_gradient;
    int8_t* kind;
    int64_t* counts;
    Ranking ranking;
  };
  static constexpr int kThreads = 256, kPhases = 3, kEach = 8;
  using Shared = BlockCounts;

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      if (p.thread < kSplatKinds) s.of_kind[p.thread] = 0;
    } else if (phase == 1) {
      DensifyThresholds thresholds = a.in.thresholds;
      if (a.grow_gradient) thresholds.grow_gradient = *a.grow_gradient;
      for (int j = 0; j < kEach; ++j) {
        const int64_t i = (p.block * kEach + j) * kThreads + p.thread;
        if (i >= a.in.n) return;
        const float mean_grad = a.in.mean_grad[i];
        const int8_t kind = classify_splat(mean_grad, a.in.scales + 3 * i, a.in.opacities[i], thresholds);
        a.kind[i] = kind;
        a.ranking.keys[i] = kind == kClone || kind == kSplit ? rank_key(mean_grad) : 0;
        a.ranking.indices[i] = static_cast<int32_t>(i);
        add_atomically(&s.of_kind[kind], 1);
      }
    } else if (p.thread < kSplatKinds) {
      add_atomically(&a.counts[p.thread], static_cast<int64_t>(s.of_kind[p.thread]));
    }
  }
};

// Takes growth back from all but the first in rank.
struct BudgetKernel {
  using Args = ClassifyKernel::Args;
  static constexpr int kThreads = 256, kPhases = 3, kEach = 8;
  using Shared = BlockCounts;

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      if (p.thread < kSplatKinds) s.of_kind[p.thread] = 0;
    } else if (phase == 1) {
      const int64_t room = growth_room(a.in, a.counts);  // reads the pruned ones' count, which no block changes
      for (int j = 0; j < kEach; ++j) {
        const int64_t rank = (p.block * kEach + j) * kThreads + p.thread;
        if (rank >= a.in.n || a.ranking.sorted_keys[rank] == 0) return;
        if (rank < room) continue;
        int8_t* kind = a.kind + a.ranking.sorted_indices[rank];
        add_atomically(&s.of_kind[*kind], 1);
        *kind = kKeep;
      }
    } else if (p.thread == kClone || p.thread == kSplit) {
      const int64_t taken = s.of_kind[p.thread];
      add_atomically(&a.counts[p.thread], -taken);
      add_atomically(&a.counts[kKeep], taken);
    }
  }
};

struct alignas(16) Words4 {
  uint32_t v[4];
};

constexpr int kMaxTables = 64;  // of one launch: a kernel's arguments may take 4 KB

// A block takes 256 splats through every table: it lists the rows that they become, copies them word by word, and gives
// children their own values.
struct ScatterKernel {
  struct Args {
    const int8_t* kind;
    const int32_t* firsts;
    int64_t n, num_out;
    uint64_t key;
    bool children;
    int num_tables;
    Rows tables[kMaxTables];
  };
  static constexpr int kThreads = 256, kPhases = 3;
  struct Shared {
    int num_rows;
    uint8_t sources[2 * kThreads];  // of every row, in splats from the block's first
    bool fresh[2 * kThreads];       // rows whose moments start at 0
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    const int64_t begin = p.block * kThreads, i = begin + p.thread, target = a.firsts[begin];
    if (phase == 1) {
      for (int t = 0; t < a.num_tables; ++t) copy_table(a.tables[t], s, begin, target, p.thread);
      return;
    }
    if (i >= a.n) return;
    const int8_t kind = a.kind[i];
    const int64_t first = a.firsts[i];
    const int copies = num_copies(kind);
    if (phase == 2) {
      if (a.children && copies == 2 && first + 2 <= a.num_out) write_children(a.tables, kind, a.key, i, first);
      return;
    }
    for (int copy = 0; copy < copies; ++copy) {
      const int64_t row = first - target + copy;
      s.sources[row] = static_cast<uint8_t>(p.thread);
      s.fresh[row] = copy == 1 || kind == kSplit;
    }
    if (p.thread == kThreads - 1 || i == a.n - 1) {
      const int64_t end = first + copies;
      s.num_rows = static_cast<int>((end < a.num_out ? end : a.num_out) - target);
    }
  }

  SD_HD void copy_table(const Rows& t, const Shared& s, int64_t begin, int64_t target, int thread) {
    const char* in = t.in + begin * t.bytes;
    char* out = t.out + target * t.bytes;
    // A power of two that divides this divides all three.
    const uintptr_t low =
        reinterpret_cast<uintptr_t>(t.in) | reinterpret_cast<uintptr_t>(t.out) | static_cast<uintptr_t>(t.bytes);
    if (low % sizeof(Words4) == 0) {
      copy_words<Words4>(in, out, t, s, thread);
    } else if (low % sizeof(uint32_t) == 0) {
      copy_words<uint32_t>(in, out, t, s, thread);
    } else {
      copy_words<uint8_t>(in, out, t, s, thread);
    }
  }

  template <class Word>
  SD_HD void copy_words(const char* in, char* out, const Rows& t, const Shared& s, int thread) {
    const int words = static_cast<int>(t.bytes / static_cast<int64_t>(sizeof(Word)));  // of a row
    if (words == 0) return;
    const int rows_ahead = kThreads / words, words_ahead = kThreads % words;
    int row = thread / words, word = thread % words;
    while (row < s.num_rows) {
      const int64_t to = int64_t{row} * words + word, from = int64_t{s.sources[row]} * words + word;
      reinterpret_cast<Word*>(out)[to] = t.moments && s.fresh[row] ? Word{} : reinterpret_cast<const Word*>(in)[from];
      row += rows_ahead;
      word += words_ahead;
      if (word >= words) {
        word -= words;
        ++row;
      }
    }
  }
};

}  // namespace

const char* kernels_unusable(int device) { return unusable<StatisticsKernel>(device); }

const char* densify_accumulate(const StatisticsArgs& args, Stream stream) {
  launch<StatisticsKernel>(args, blocks_for(args.n, StatisticsKernel::kThreads), stream);
  return launch_error();
}

size_t classify_workspace(int64_t n) {
  return static_cast<size_t>(n) * 2 * (sizeof(uint32_t) + sizeof(int32_t)) + sort_workspace(static_cast<int>(n));
}

const char* densify_classify(const ClassifyArgs& args, const float* grow_gradient, int8_t* kind, int64_t* counts,
                             void* workspace, Stream stream) {
  const int64_t blocks = blocks_for(args.n, ClassifyKernel::kThreads * ClassifyKernel::kEach);
  const Ranking r = ranking_in(workspace, args.n);
  const ClassifyKernel::Args all = {args, grow_gradient, kind, counts, r};
  clear(counts, kSplatKinds * sizeof(int64_t), stream);
  launch<ClassifyKernel>(all, blocks, stream);
  if (args.max_splats >= 2 * args.n) return launch_error();  // room for all, known without a look
  const int n = static_cast<int>(args.n);
  sort_descending(r.rest, sort_workspace(n), r.keys, r.sorted_keys, r.indices, r.sorted_indices, n, stream);
  launch<BudgetKernel>(all, blocks, stream);
  return launch_error();
}

size_t scatter_workspace(int64_t n) {
  return static_cast<size_t>(n) * sizeof(int32_t) + scan_workspace(static_cast<int>(n));
}

const char* densify_scatter(const ScatterArgs& args, void* workspace, Stream stream) {
  int32_t* firsts = static_cast<int32_t*>(workspace);
  const int n = static_cast<int>(args.n);
  first_rows(firsts + n, scan_workspace(n), args.kind, firsts, n, stream);
  for (int done = 0; done < args.num_tables; done += kMaxTables) {
    ScatterKernel::Args part = {args.kind, firsts, args.n, args.num_out, args.key, done == 0, 0, {}};
    part.num_tables = args.num_tables - done < kMaxTables ? args.num_tables - done : kMaxTables;
    for (int i = 0; i < part.num_tables; ++i) part.tables[i] = args.tables[done + i];
    launch<ScatterKernel>(part, blocks_for(args.n, ScatterKernel::kThreads), stream);
  }
  return launch_error();
}

}  // namespace sd::cuda
