#include <memory>
#include <tuple>
#include <vector>

#include "../cpu/densify.h"
#include "../cuda/densify.h"
#include "densify_memory.h"
#include "operator.h"
#include "statistics.h"

// Statistics, plan and surgery of densify.
namespace sd::bind {
namespace {

int64_t row_bytes(const Tensor& t) {
  return t.size(0) > 0 ? t.numel() / t.size(0) * static_cast<int64_t>(t.element_size()) : 0;
}

struct Cpu {
  static void accumulate(const StatisticsArgs& args, const Tensor&) { cpu::densify_accumulate(args, num_threads()); }

  static void classify(const ClassifyArgs& args, const float*, int8_t* kind, int64_t* counts, const Tensor&) {
    cpu::densify_classify(args, kind, counts, num_threads());
  }

  // Uninitialised tensors like those of `tensors`, with num_out rows, side by side in memory that lives as long as any
  // of them.
  static std::vector<Tensor> allocate_rows(const std::vector<Tensor>& tensors, int64_t num_out) {
    const auto bytes = [&](const Tensor& t) { return (row_bytes(t) * num_out + 63) / 64 * 64; };
    int64_t total = 0;
    for (const Tensor& t : tensors) total += bytes(t);
    const std::shared_ptr<EventMemory> memory = EventMemory::take(tensors[0], total);
    char* next = memory->data();
    std::vector<Tensor> out;
    for (const Tensor& t : tensors) {
      std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end()), strides(t.strides().begin(), t.strides().end());
      sizes[0] = num_out;
      out.push_back(torch::stable::from_blob(next, sizes, strides, t.device(), t.scalar_type(),
                                             [memory](void*) { static_cast<void>(memory); }));
      next += bytes(t);
    }
    return out;
  }

  static void scatter(const ScatterArgs& args, const Tensor&) {
    STD_TORCH_CHECK(cpu::densify_scatter(args, num_threads()), "kind does not lead to num_out rows");
  }
};

struct Cuda {
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

  static void check_size(int64_t n) { STD_TORCH_CHECK(n < int64_t{1} << 30, "too many splats"); }
};

template <class Backend>
void densify_accumulate(const Tensor& grad_sum, const Tensor& count, const Tensor& probe_grad, const Tensor& radii) {
  Backend::accumulate(statistics_args(grad_sum, count, probe_grad, radii), grad_sum);
}

template <class Backend>
std::tuple<Tensor, Tensor> densify_classify(const Tensor& mean_grad, const Tensor& scales, const Tensor& opacities,
                                            const Tensor& grow_gradient, double split_scale, double prune_scale,
                                            double prune_opacity, int64_t max_splats) {
  STD_TORCH_CHECK(mean_grad.dim() == 1, "mean_grad must be [N]");
  const int64_t n = mean_grad.size(0);
  const Device device = mean_grad.device();
  // A number that is not on a CPU is left where it is: to read it here would be to wait for it.
  const float* grow =
      checked<float>(grow_gradient, "grow_gradient", {}, grow_gradient.is_cpu() ? Device(DeviceType::CPU) : device);
  const ClassifyArgs args = {checked<float>(mean_grad, "mean_grad", {n}, device),
                             checked<float>(scales, "scales", {n, 3}, device),
                             checked<float>(opacities, "opacities", {n}, device),
                             n,
                             {grow_gradient.is_cpu() ? *grow : 0.0f, static_cast<float>(split_scale),
                              static_cast<float>(prune_scale), static_cast<float>(prune_opacity)},
                             max_splats};
  Tensor kind = allocate<int8_t>(mean_grad, {n}), counts = allocate<int64_t>(mean_grad, {kSplatKinds});
  Backend::classify(args, grow_gradient.is_cpu() ? nullptr : grow, data<int8_t>(kind), data<int64_t>(counts),
                    mean_grad);
  return {kind, counts};
}

// `tensors` begins with means, quats, scales and opacities, and ends with num_moments tensors of moments.
template <class Backend>
std::vector<Tensor> densify_scatter(const std::vector<Tensor>& tensors, int64_t num_moments, const Tensor& kind,
                                    int64_t num_out, int64_t key) {
  const int64_t size = static_cast<int64_t>(tensors.size());
  STD_TORCH_CHECK(kind.dim() == 1 && num_moments >= 0 && size >= 4 + num_moments && num_out >= 0,
                  "kind must be [N], num_out at least 0, and tensors must hold the splats");
  const int64_t n = kind.size(0);
  const Device device = kind.device();
  checked<float>(tensors[kMeans], "means", {n, 3}, device);
  checked<float>(tensors[kQuats], "quats", {n, 4}, device);
  checked<float>(tensors[kScales], "scales", {n, 3}, device);
  checked<float>(tensors[kOpacities], "opacities", {n}, device);
  for (const Tensor& t : tensors)
    STD_TORCH_CHECK(t.dim() >= 1 && t.size(0) == n && t.device() == device && t.is_contiguous(),
                    "every tensor must have N rows, be contiguous and on the device of kind");
  const std::vector<Tensor> out = Backend::allocate_rows(tensors, num_out);
  std::vector<Rows> tables;
  for (int64_t i = 0; i < size; ++i) {
    const Tensor& t = tensors[static_cast<size_t>(i)];
    tables.push_back({static_cast<const char*>(t.data_ptr()), data<char>(out[static_cast<size_t>(i)]), row_bytes(t),
                      i >= size - num_moments});
  }
  Backend::scatter({checked<int8_t>(kind, "kind", {n}, device), n, num_out, tables.data(), static_cast<int>(size),
                    static_cast<uint64_t>(key)},
                   kind);
  return out;
}

template <class Library>
void define(Library& m) {
  m.def("densify_accumulate(Tensor(a!) grad_sum, Tensor(b!) count, Tensor probe_grad, Tensor radii) -> ()");
  m.def(
      "densify_classify(Tensor mean_grad, Tensor scales, Tensor opacities, Tensor grow_gradient, float split_scale, "
      "float prune_scale, float prune_opacity, int max_splats) -> (Tensor kind, Tensor counts)");
  m.def("densify_scatter(Tensor[] tensors, int num_moments, Tensor kind, SymInt num_out, int key) -> Tensor[]");
}

template <class Backend, class Library>
void implement(Library& m) {
  m.impl("densify_accumulate", TORCH_BOX(&densify_accumulate<Backend>));
  m.impl("densify_classify", TORCH_BOX(&densify_classify<Backend>));
  m.impl("densify_scatter", TORCH_BOX(&densify_scatter<Backend>));
}

}  // namespace

SD_REGISTER_OPERATORS

}  // namespace sd::bind
