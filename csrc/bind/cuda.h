#pragma once

#include <vector>

#include "../cuda/densify.h"
#include "../cuda/products.h"
#include "../cuda/residual.h"
#include "../cuda/update.h"
#include "densify.h"
#include "products.h"
#include "residual.h"
#include "update.h"

// The CUDA kernels as a backend of the operators. A Queue makes a tensor's device the current one, knows its stream
// and has a word for it, 0 between launches, by which a launch finds its last block.
namespace sd::bind {

inline void check_launch(const char* error) { STD_TORCH_CHECK(!error, "CUDA: ", error); }

inline Tensor bytes_like(const Tensor& like, size_t bytes) {
  return allocate<int8_t>(like, {static_cast<int64_t>(bytes)});
}

template <class Queue>
struct Cuda {
  static int64_t residual_workspace(int64_t num_views, int64_t view_size) {
    return cuda::residual_workspace(num_views, view_size);
  }

  static void residual(ResidualArgs args, const Tensor& like) {
    const Queue queue(like);
    args.ticket = queue.ticket();
    check_launch(cuda::residual(args, queue.stream));
  }

  static void noising(const NoisingArgs& args, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::noising(args, queue.stream));
  }

  static void products(const ProductArgs& args, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::products(args, queue.stream));
  }

  static void accumulate(const StatisticsArgs& args, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::densify_accumulate(args, queue.stream));
  }

  static void classify(const ClassifyArgs& args, const float* grow_gradient, int8_t* kind, int64_t* counts,
                       const Tensor& like) {
    check_size(args.n);
    const Queue queue(like);
    Tensor workspace = bytes_like(like, cuda::classify_workspace(args.n));
    check_launch(cuda::densify_classify(args, grow_gradient, kind, counts, data<char>(workspace), queue.stream));
  }

  static std::vector<Tensor> allocate_rows(const std::vector<Tensor>& tensors, int64_t num_out) {
    std::vector<Tensor> out;
    for (const Tensor& t : tensors) {
      std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end());
      sizes[0] = num_out;
      out.push_back(torch::stable::new_empty(t, sizes));
    }
    return out;
  }

  static void scatter(const ScatterArgs& args, const Tensor& like) {
    check_size(args.n);
    const Queue queue(like);
    Tensor workspace = bytes_like(like, cuda::scatter_workspace(args.n));
    check_launch(cuda::densify_scatter(args, data<char>(workspace), queue.stream));
  }

  static void check_gradients(const std::vector<Tensor>& grads, const CheckArgs& args, const Tensor& like) {
    std::vector<cuda::Gradients> all;
    for (const Tensor& grad : grads) all.push_back({data<float>(grad), grad.numel()});
    const Queue queue(like);
    check_launch(cuda::check_gradients(all.data(), static_cast<int>(all.size()), args, queue.ticket(), queue.stream));
  }

  static void update_splats(const UpdateArgs& args, const StatisticsArgs& statistics, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::update_splats(args, statistics, queue.stream));
  }

  static void count_skip(int64_t* counts, const bool* skipped, bool fresh, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::count_skip(counts, skipped, fresh, queue.stream));
  }

  static void check_size(int64_t n) { STD_TORCH_CHECK(n < int64_t{1} << 30, "too many splats"); }
};

}  // namespace sd::bind
