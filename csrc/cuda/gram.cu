#include "gram.h"

#include "elements.h"
#include "launch.h"
#include "terms.h"

namespace sd::cuda {
namespace {

constexpr int kWide = 128, kHalvings = 7;
static_assert(1 << kHalvings == kWide);

// A block takes one chunk of one view: every thread adds up its elements, then the sums of two halves of the block are
// added until one is left. T: what elements are read as, float unless one of the terms is double.
template <class T, int K, int W>
struct GramKernel {
  using Args = GramArgs;
  static constexpr int kThreads = kWide, kPhases = 1 + kHalvings, kEntries = num_gram_entries(K);
  struct Shared {
    double sums[kEntries][kThreads];
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      take(a, s, p);
      return;
    }
    const int left = kThreads >> phase;
    if (p.thread >= left) return;
    for (int i = 0; i < kEntries; ++i) {
      const double sum = s.sums[i][p.thread] + s.sums[i][p.thread + left];
      if (left == 1) {
        a.chunks[p.block * kEntries + i] = sum;
      } else {
        s.sums[i][p.thread] = sum;
      }
    }
  }

  SD_HD void take(const Args& a, Shared& s, Place p) {
    const int64_t chunks = num_chunks(a.view_size), view = p.block / chunks, first = p.block % chunks * kResidualChunk;
    const int64_t last = first + kResidualChunk < a.view_size ? first + kResidualChunk : a.view_size;
    double sums[kEntries] = {};
    SD_ROLLED
    for (int64_t i = first + p.thread * W; i < last; i += kThreads * W) {
      Fetched<T, W> fetched[K];
      for (int k = 0; k < K; ++k) fetched[k] = fetch<T, W>(a.terms[k], view * a.view_size + i);
      Vector<T, W> values[K];
      for (int k = 0; k < K; ++k) values[k] = arrived(fetched[k], a.terms[k].dtype);
      for (int w = 0; w < W; ++w) {
        int entry = 0;
        for (int j = 0; j < K; ++j) {
          const double left = static_cast<double>(values[j].v[w]);
          sums[entry++] += left;
          for (int k = j; k < K; ++k) sums[entry++] += left * static_cast<double>(values[k].v[w]);
        }
      }
    }
    for (int i = 0; i < kEntries; ++i) s.sums[i][p.thread] = sums[i];
  }
};

// A block adds up one entry of one view over its chunks.
struct TotalKernel {
  using Args = GramArgs;
  static constexpr int kThreads = kWide, kPhases = 1 + kHalvings;
  struct Shared {
    double sums[kThreads];
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    const int64_t entries = num_gram_entries(a.num_terms), view = p.block / entries, entry = p.block % entries;
    if (phase == 0) {
      const int64_t chunks = num_chunks(a.view_size);
      double sum = 0.0;
      for (int64_t i = p.thread; i < chunks; i += kThreads) sum += a.chunks[(view * chunks + i) * entries + entry];
      s.sums[p.thread] = sum;
      return;
    }
    const int left = kThreads >> phase;
    if (p.thread < left) s.sums[p.thread] += s.sums[p.thread + left];
    if (left == 1 && p.thread == 0) put_gram_entry(a, view, static_cast<int>(entry), s.sums[0]);
  }
};

}  // namespace

const char* gram(const GramArgs& args, Stream stream) {
  bool vectors = true, wide = false;
  for (int k = 0; k < args.num_terms; ++k) {
    vectors = vectors && aligned_for_vectors(args.terms[k].data, args.terms[k].dtype, args.view_size);
    wide = wide || args.terms[k].dtype == Dtype::kDouble;
  }
  if (wide) {
    (vectors ? launch_for_terms<GramKernel, double, 4> : launch_for_terms<GramKernel, double, 1>)(args, stream);
  } else {
    (vectors ? launch_for_terms<GramKernel, float, 4> : launch_for_terms<GramKernel, float, 1>)(args, stream);
  }
  launch<TotalKernel>(args, args.num_views * num_gram_entries(args.num_terms), stream);
  return launch_error();
}

}  // namespace sd::cuda
