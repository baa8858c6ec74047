#pragma once

#include <vector>

#include "../cuda/densify.h"
#include "../cuda/products.h"
#include "../cuda/residual.h"
#include "densify.h"
#include "products.h"
#include "residual.h"

// The CUDA kernels as a backend of the operators. A Queue makes a tensor's device the current one and knows its stream.
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

  static void residual(const ResidualArgs& args, const Tensor& like) {
    const Queue queue(like);
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

  static void accumulate(const float* probe_grad, const int32_t* radii, int64_t num_views, int64_t n, float* grad_sum,
                         int64_t* count, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::densify_accumulate(probe_grad, radii, num_views, n, grad_sum, count, queue.stream));
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

  static void check_size(int64_t n) { STD_TORCH_CHECK(n < int64_t{1} << 30, "too many splats"); }
};

}  // namespace sd::bind
