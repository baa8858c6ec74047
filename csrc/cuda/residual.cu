#include "residual.h"

#include <cmath>

#include "elements.h"
#include "launch.h"
#include "terms.h"

namespace sd::cuda {
namespace {

SD_HD ResidualSums plus(const ResidualSums& a, const ResidualSums& b) {
  return {a.squared + b.squared, a.nonfinite + b.nonfinite};
}

// A block takes one chunk of one view: W elements a thread at a time, then the sums of two halves of the block are
// added until one is left. The block that is done last adds up the chunks in a fixed order: those of a view to kLanes,
// those to one, then the views.
template <class T, int K, int W>
struct ChunkKernel {
  using Args = ResidualArgs;
  static constexpr int kThreads = 256, kHalvings = 8, kFinish = 1 + kHalvings, kPhases = kFinish + 3, kLanes = 32;
  static_assert(1 << kHalvings == kThreads);
  struct Shared {
    ResidualSums sums[kThreads];
    bool last;
  };

  // Sums behind those of the chunks.
  SD_HD int64_t workspace(int64_t views) { return views * kLanes; }

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      s.sums[p.thread] = take(a, p);
    } else if (phase < kFinish) {
      halve(kThreads >> phase, a, s, p);
    } else if (s.last) {
      finish(phase - kFinish, a, p.thread);
    }
  }

  SD_HD void halve(int left, const Args& a, Shared& s, Place p) {
    if (p.thread >= left) return;
    const ResidualSums sums = plus(s.sums[p.thread], s.sums[p.thread + left]);
    if (left > 1) {
      s.sums[p.thread] = sums;
      return;
    }
    a.sums[p.block] = sums;
    s.last = take_ticket(a.ticket, 1) + 1 == static_cast<uint64_t>(a.num_views * num_chunks(a.view_size));
  }

  SD_HD ResidualSums take(const Args& a, Place p) {
    const int64_t chunks = num_chunks(a.view_size), view = p.block / chunks, first = p.block % chunks * kResidualChunk;
    const int64_t last = first + kResidualChunk < a.view_size ? first + kResidualChunk : a.view_size;
    T coef[K];
    for (int k = 0; k < K; ++k) coef[k] = static_cast<const T*>(a.coef)[k * a.num_views + view];
    const T weight = static_cast<const T*>(a.weight)[view];
    const T limit = static_cast<T>(a.clamp), scale = static_cast<T>(a.inverse_views);
    ResidualSums sums = {};
    for (int64_t i = first + p.thread * W; i < last; i += kThreads * W) {
      const int64_t index = view * a.view_size + i;
      Fetched<T, W> fetched[K];
      for (int k = 0; k < K; ++k) fetched[k] = fetch<T, W>(a.terms[k], index);
      Vector<T, W> values[K], grad;
      for (int k = 0; k < K; ++k) values[k] = arrived(fetched[k], a.terms[k].dtype);
      const T* terms[K];
      for (int k = 0; k < K; ++k) terms[k] = values[k].v;
      T squared = 0;
      for (int j = 0; j < W; ++j) {
        const ResidualElement<T> g = residual_element<K, T>(terms, j, coef, weight, limit);
        sums.nonfinite += g.finite ? 0 : 1;
        squared += g.value * g.value;
        grad.v[j] = g.value * scale;
      }
      sums.squared += static_cast<double>(squared);
      store<T, W>(a.grad, a.dtype, index, grad);
    }
    return sums;
  }

  SD_HD void finish(int phase, const Args& a, int thread) {
    const int64_t chunks = num_chunks(a.view_size);
    ResidualSums* lanes = a.sums + a.num_views * chunks;
    if (phase == 0) {
      for (int64_t i = thread; i < a.num_views * kLanes; i += kThreads)
        lanes[i] = total(a.sums + i / kLanes * chunks, i % kLanes, chunks, kLanes);
    } else if (phase == 1) {
      for (int64_t view = thread; view < a.num_views; view += kThreads) {
        const ResidualSums sums = total(lanes + view * kLanes, 0, kLanes, 1);
        lanes[view * kLanes] = sums;
        static_cast<T*>(a.norms)[view] = static_cast<T>(sqrt(sums.squared));
      }
    } else if (thread == 0) {
      *a.num_nonfinite = total(lanes, 0, a.num_views * kLanes, kLanes).nonfinite;
      *a.ticket = 0;
    }
  }

  SD_HD ResidualSums total(const ResidualSums* sums, int64_t first, int64_t end, int64_t step) {
    ResidualSums out = {};
    for (int64_t i = first; i < end; i += step) out = plus(out, sums[i]);
    return out;
  }
};

template <class T, int W>
struct NoisingKernel {
  using Args = NoisingArgs;
  static constexpr int kThreads = 256, kPhases = 1;
  struct Shared {};

  SD_HD void run(int, const Args& a, Shared&, Place p) {
    const int64_t chunks = num_chunks(a.view_size), view = p.block / chunks, first = p.block % chunks * kResidualChunk;
    const int64_t last = first + kResidualChunk < a.view_size ? first + kResidualChunk : a.view_size;
    const T alpha = static_cast<const T*>(a.alpha)[view], sigma = static_cast<const T*>(a.sigma)[view];
    for (int64_t i = first + p.thread * W; i < last; i += kThreads * W) {
      const int64_t index = view * a.view_size + i;
      const Fetched<T, W> fetched_x0 = fetch<T, W>(a.x0, index), fetched_eps = fetch<T, W>(a.eps, index);
      const Vector<T, W> x0 = arrived(fetched_x0, a.x0.dtype), eps = arrived(fetched_eps, a.eps.dtype);
      Vector<T, W> noised;
      for (int j = 0; j < W; ++j) noised.v[j] = noised_element(x0.v[j], eps.v[j], alpha, sigma);
      store<T, W>(a.noised, a.x0.dtype, index, noised);
    }
  }
};

template <class T>
void launch_residual(const ResidualArgs& a, Stream stream) {
  if (a.num_views == 0 || a.view_size == 0) {  // no block would be the last
    clear(a.norms, sizeof(T) * static_cast<size_t>(a.num_views), stream);
    clear(a.num_nonfinite, sizeof(int64_t), stream);
    return;
  }
  bool vectors = aligned_for_vectors(a.grad, a.dtype, a.view_size);
  for (int k = 0; k < a.num_terms; ++k)
    vectors = vectors && aligned_for_vectors(a.terms[k].data, a.terms[k].dtype, a.view_size);
  (vectors ? launch_for_terms<ChunkKernel, T, 4> : launch_for_terms<ChunkKernel, T, 1>)(a, stream);
}

template <class T>
void launch_noising(const NoisingArgs& a, Stream stream) {
  const bool vectors = aligned_for_vectors(a.x0.data, a.x0.dtype, a.view_size) &&
                       aligned_for_vectors(a.eps.data, a.eps.dtype, a.view_size) &&
                       aligned_for_vectors(a.noised, a.x0.dtype, a.view_size);
  (vectors ? launch<NoisingKernel<T, 4>> : launch<NoisingKernel<T, 1>>)(a, a.num_views * num_chunks(a.view_size),
                                                                        stream);
}

}  // namespace

int64_t residual_workspace(int64_t num_views, int64_t view_size) {
  return num_views * num_chunks(view_size) + ChunkKernel<float, 1, 1>::workspace(num_views);
}

const char* residual(const ResidualArgs& args, Stream stream) {
  (args.dtype == Dtype::kDouble ? launch_residual<double> : launch_residual<float>)(args, stream);
  return launch_error();
}

const char* noising(const NoisingArgs& args, Stream stream) {
  (args.x0.dtype == Dtype::kDouble ? launch_noising<double> : launch_noising<float>)(args, stream);
  return launch_error();
}

}  // namespace sd::cuda
