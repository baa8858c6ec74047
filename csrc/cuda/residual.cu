#include "residual.h"

#include <cmath>

#include "elements.h"
#include "launch.h"
#include "terms.h"

namespace sd::cuda {
namespace {

SD_HD ResidualSums plus(const ResidualSums& a, const ResidualSums& b) {
  return {a.inner + b.inner, a.squared + b.squared, a.nonfinite + b.nonfinite};
}

// A block takes one chunk of one view: W elements a thread at a time, then the sums of two halves of the block are
// added until one is left.
template <class T, int K, int W>
struct ChunkKernel {
  using Args = ResidualArgs;
  static constexpr int kThreads = 256, kHalvings = 8, kPhases = 1 + kHalvings;
  static_assert(1 << kHalvings == kThreads);
  struct Shared {
    ResidualSums sums[kThreads];
  };

  SD_HD void run(int phase, const Args& a, Shared& s, Place p) {
    if (phase == 0) {
      s.sums[p.thread] = take(a, p);
      return;
    }
    const int left = kThreads >> phase;
    if (p.thread >= left) return;
    const ResidualSums sums = plus(s.sums[p.thread], s.sums[p.thread + left]);
    if (left == 1) {
      a.sums[p.block] = sums;
    } else {
      s.sums[p.thread] = sums;
    }
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
      const Fetched<T, W> fetched_x0 = fetch<T, W>(a.x0, index);
      Vector<T, W> values[K], grad;
      for (int k = 0; k < K; ++k) values[k] = arrived(fetched[k], a.terms[k].dtype);
      const Vector<T, W> x0 = arrived(fetched_x0, a.x0.dtype);
      const T* terms[K];
      for (int k = 0; k < K; ++k) terms[k] = values[k].v;
      T inner = 0, squared = 0;
      for (int j = 0; j < W; ++j) {
        const ResidualElement<T> g = residual_element<K, T>(terms, j, coef, weight, limit);
        sums.nonfinite += g.finite ? 0 : 1;
        inner += x0.v[j] * g.value;
        squared += g.value * g.value;
        grad.v[j] = g.value * scale;
      }
      sums.inner += static_cast<double>(inner);
      sums.squared += static_cast<double>(squared);
      store<T, W>(a.grad, a.x0.dtype, index, grad);
    }
    return sums;
  }
};

// One block adds up the chunks in a fixed order: each view's to kLanes, those to kParts, those to one, then the views.
template <class T>
struct FinishKernel {
  using Args = ResidualArgs;
  static constexpr int kThreads = 1024, kPhases = 4, kLanes = 256, kParts = 16;
  struct Shared {};

  // Sums behind those of the chunks.
  SD_HD int64_t workspace(int64_t views) { return views * (kLanes + kParts); }

  SD_HD void run(int phase, const Args& a, Shared&, Place p) {
    const int64_t chunks = num_chunks(a.view_size);
    ResidualSums* lanes = a.sums + a.num_views * chunks;
    ResidualSums* parts = lanes + a.num_views * kLanes;
    if (phase == 0) {
      for (int64_t i = p.thread; i < a.num_views * kLanes; i += kThreads)
        lanes[i] = total(a.sums + i / kLanes * chunks, i % kLanes, chunks, kLanes);
    } else if (phase == 1) {
      for (int64_t i = p.thread; i < a.num_views * kParts; i += kThreads)
        parts[i] = total(lanes + i / kParts * kLanes, i % kParts, kLanes, kParts);
    } else if (phase == 2) {
      for (int64_t view = p.thread; view < a.num_views; view += kThreads) {
        lanes[view * kLanes] = total(parts + view * kParts, 0, kParts, 1);
        static_cast<T*>(a.norms)[view] = static_cast<T>(sqrt(lanes[view * kLanes].squared));
      }
    } else if (p.thread == 0) {
      const ResidualSums sums = total(lanes, 0, a.num_views * kLanes, kLanes);
      *static_cast<T*>(a.loss) = static_cast<T>(sums.inner * a.inverse_views);
      *a.num_nonfinite = sums.nonfinite;
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
  bool vectors = aligned_for_vectors(a.x0.data, a.x0.dtype, a.view_size);
  vectors = vectors && aligned_for_vectors(a.grad, a.x0.dtype, a.view_size);
  for (int k = 0; k < a.num_terms; ++k)
    vectors = vectors && aligned_for_vectors(a.terms[k].data, a.terms[k].dtype, a.view_size);
  (vectors ? launch_for_terms<ChunkKernel, T, 4> : launch_for_terms<ChunkKernel, T, 1>)(a, stream);
  launch<FinishKernel<T>>(a, 1, stream);
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
  return num_views * num_chunks(view_size) + FinishKernel<float>::workspace(num_views);
}

const char* residual(const ResidualArgs& args, Stream stream) {
  (args.x0.dtype == Dtype::kDouble ? launch_residual<double> : launch_residual<float>)(args, stream);
  return launch_error();
}

const char* noising(const NoisingArgs& args, Stream stream) {
  (args.x0.dtype == Dtype::kDouble ? launch_noising<double> : launch_noising<float>)(args, stream);
  return launch_error();
}

}  // namespace sd::cuda
