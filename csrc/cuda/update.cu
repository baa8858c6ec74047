#include "update.h"

#include "elements.h"
#include "launch.h"
#include "statistics.h"

namespace sd::cuda {
namespace {

constexpr int kMaxGradients = 64;  // of one launch: a kernel's arguments may take 4 KB
constexpr int kWidth = 4;          // elements of one access

SD_HD bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % (kWidth * sizeof(float)) == 0; }

// Which tensor a block belongs to; the last one whose first block is not behind it.
SD_HD int tensor_of(const int64_t* first_blocks, int number, int64_t block) {
  int found = 0;
  while (found + 1 < number && first_blocks[found + 1] <= block) ++found;
  return found;
}

// Every block looks at its part of a tensor. The last one to be done knows of all and writes what follows from it.
struct CheckKernel {
  static constexpr int kThreads = 256, kPhases = 3, kEach = 4 * kWidth;
  struct Args {
    Gradients grads[kMaxGradients];
    int64_t first_blocks[kMaxGradients];
    int num_grads;
    int64_t num_blocks;
    bool final;  // of the launches that look at gradients which belong together
    CheckArgs check;
    uint64_t* ticket;  // blocks that are done in its low half, those that found something in its high half
  };
  struct Shared {
    int unusable;
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      if (p.thread == 0) s.unusable = 0;
    } else if (phase == 1) {
      const int t = tensor_of(a.first_blocks, a.num_grads, p.block);
      const int64_t begin = (p.block - a.first_blocks[t]) * kThreads * kEach;
      if (a.num_grads > 0 && !usable(a.grads[t], begin, p.thread)) add_atomically(&s.unusable, 1);
    } else if (p.thread == 0) {
      constexpr uint64_t kDone = 1, kFound = uint64_t{1} << 32;
      const uint64_t mine = kDone + (s.unusable ? kFound : 0), all = take_ticket(a.ticket, mine) + mine;
      if (all % kFound != static_cast<uint64_t>(a.num_blocks)) return;
      *a.ticket = a.final || all < kFound ? 0 : kFound;
      if (a.final) finish_check(a.check, all < kFound);
    }
  }

  SD_HD bool usable(const Gradients& t, int64_t begin, int thread) {
    bool good = true;
    if (begin + kThreads * kEach <= t.size && aligned(t.data)) {
      Vector<float, kWidth> read[kEach / kWidth];  // all are asked for before any is waited for
      for (int j = 0; j < kEach / kWidth; ++j)
        read[j] = vector_at<float, kWidth>(t.data, begin + (j * kThreads + thread) * kWidth);
      for (int j = 0; j < kEach; ++j) good = good & usable_gradient(read[j / kWidth].v[j % kWidth]);
    } else {
      for (int j = 0; j < kEach; ++j) {
        const int64_t i = begin + j * kThreads + thread;
        good = good & (i >= t.size || usable_gradient(t.data[i]));
      }
    }
    return good;
  }
};

// The first blocks take a splat a thread and add to the statistics; the others four elements of a tensor a thread.
struct UpdateKernel {
  static constexpr int kThreads = 256, kPhases = 2;
  struct Args {
    UpdateArgs update;
    int64_t first_blocks[kMaxLearned];
    StatisticsArgs statistics;
    int64_t statistics_blocks;
  };
  struct Shared {
    AdamFactors factors;
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (p.block < a.statistics_blocks) {
      if (phase == 0) add_statistics(a.statistics, p.block * kThreads + p.thread);
      return;
    }
    if (*a.update.skip) return;
    const int64_t block = p.block - a.statistics_blocks;
    const int index = tensor_of(a.first_blocks, a.update.num_tensors, block);
    const Learned& t = a.update.tensors[index];
    if (phase == 1) {
      move(t, s.factors, ((block - a.first_blocks[index]) * kThreads + p.thread) * kWidth);
    } else if (p.thread == 0) {
      s.factors = adam_factors(a.update.settings, t.rate, *a.update.correction);
    }
  }

  // Elements i to i + 3, of which all or none are in_whole_eight.
  SD_HD void move(const Learned& t, const AdamFactors& f, int64_t i) {
    const bool whole = in_whole_eight(i, t.size);
    if (i + kWidth <= t.size && aligned(t.values) && aligned(t.grads) && aligned(t.exp_avgs) &&
        aligned(t.exp_avg_sqs)) {
      using Four = Vector<float, kWidth>;
      const Four grads = vector_at<float, kWidth>(t.grads, i);
      Four values = vector_at<float, kWidth>(t.values, i), exp_avgs = vector_at<float, kWidth>(t.exp_avgs, i);
      Four exp_avg_sqs = vector_at<float, kWidth>(t.exp_avg_sqs, i);
      for (int k = 0; k < kWidth; ++k) adam_element(f, whole, grads.v[k], values.v[k], exp_avgs.v[k], exp_avg_sqs.v[k]);
      put_vector(t.values, i, values);
      put_vector(t.exp_avgs, i, exp_avgs);
      put_vector(t.exp_avg_sqs, i, exp_avg_sqs);
    } else {
      for (int64_t k = i; k < i + kWidth && k < t.size; ++k)
        adam_element(f, whole, t.grads[k], t.values[k], t.exp_avgs[k], t.exp_avg_sqs[k]);
    }
  }
};

struct CountKernel {
  struct Args {
    int64_t* counts;
    const bool* skipped;
    bool fresh;
  };
  static constexpr int kThreads = 1, kPhases = 1;
  struct Shared {};

  SD_HD void run(int, const Args& a, Shared&, Place) { sd::count_skip(a.counts, *a.skipped, a.fresh); }
};

}  // namespace

const char* check_gradients(const Gradients* grads, int num_grads, const CheckArgs& args, uint64_t* ticket,
                            Stream stream) {
  int done = 0;
  do {
    CheckKernel::Args part = {{}, {}, 0, 0, false, args, ticket};
    for (; done < num_grads && part.num_grads < kMaxGradients; ++done) {
      part.grads[part.num_grads] = grads[done];
      part.first_blocks[part.num_grads++] = part.num_blocks;
      part.num_blocks += blocks_for(grads[done].size, CheckKernel::kThreads * CheckKernel::kEach);
    }
    part.final = done == num_grads;
    if (part.num_blocks == 0) part.num_grads = 0;
    part.num_blocks = part.num_blocks == 0 ? 1 : part.num_blocks;
    launch<CheckKernel>(part, part.num_blocks, stream);
  } while (done < num_grads);
  return launch_error();
}

const char* update_splats(const UpdateArgs& args, const StatisticsArgs& statistics, Stream stream) {
  UpdateKernel::Args all = {args, {}, statistics, blocks_for(statistics.n, UpdateKernel::kThreads)};
  int64_t blocks = 0;
  for (int i = 0; i < args.num_tensors; ++i) {
    all.first_blocks[i] = blocks;
    blocks += blocks_for(args.tensors[i].size, UpdateKernel::kThreads * kWidth);
  }
  launch<UpdateKernel>(all, all.statistics_blocks + blocks, stream);
  return launch_error();
}

const char* count_skip(int64_t* counts, const bool* skipped, bool fresh, Stream stream) {
  launch<CountKernel>({counts, skipped, fresh}, 1, stream);
  return launch_error();
}

}  // namespace sd::cuda
