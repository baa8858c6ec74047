#include "../cpu/densify.h"

#include <tuple>
#include <vector>

#include "densify_memory.h"
#include "tensors.h"

namespace sd::bind {
namespace {

using namespace sd::cpu;

void densify_accumulate(const Tensor& grad_sum, const Tensor& count, const Tensor& probe_grad, const Tensor& radii) {
  STD_TORCH_CHECK(probe_grad.dim() == 3, "probe_grad must be [V,N,2]");
  const int64_t v = probe_grad.size(0), n = probe_grad.size(1);
  cpu::densify_accumulate(checked<float>(probe_grad, "probe_grad", {v, n, 2}),
                          checked<int32_t>(radii, "radii", {v, n, 2}), v, n, checked<float>(grad_sum, "grad_sum", {n}),
                          checked<int64_t>(count, "count", {n}), num_threads());
}

std::tuple<Tensor, Tensor> densify_classify(const Tensor& mean_grad, const Tensor& scales, const Tensor& opacities,
                                            double grow_gradient, double split_scale, double prune_scale,
                                            double prune_opacity, int64_t max_splats) {
  STD_TORCH_CHECK(mean_grad.dim() == 1, "mean_grad must be [N]");
  const int64_t n = mean_grad.size(0);
  const ClassifyArgs args = {checked<float>(mean_grad, "mean_grad", {n}),
                             checked<float>(scales, "scales", {n, 3}),
                             checked<float>(opacities, "opacities", {n}),
                             n,
                             {static_cast<float>(grow_gradient), static_cast<float>(split_scale),
                              static_cast<float>(prune_scale), static_cast<float>(prune_opacity)},
                             max_splats,
                             num_threads()};
  Tensor kind = allocate<int8_t>(mean_grad, {n}), counts = allocate<int64_t>(mean_grad, {kSplatKinds});
  cpu::densify_classify(args, data<int8_t>(kind), data<int64_t>(counts));
  return {kind, counts};
}

int64_t row_bytes(const Tensor& t) {
  return t.size(0) > 0 ? t.numel() / t.size(0) * static_cast<int64_t>(t.element_size()) : 0;
}

// Uninitialised tensors like those of `tensors`, with num_out rows, side by side in memory that lives as long as any of
// them.
std::vector<Tensor> allocate_rows(const std::vector<Tensor>& tensors, int64_t num_out) {
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

// `tensors` begins with means, quats, scales and opacities, and ends with num_moments tensors of moments.
std::vector<Tensor> densify_scatter(const std::vector<Tensor>& tensors, int64_t num_moments, const Tensor& kind,
                                    int64_t num_out, int64_t key) {
  const int64_t size = static_cast<int64_t>(tensors.size());
  STD_TORCH_CHECK(kind.dim() == 1 && num_moments >= 0 && size >= 4 + num_moments && num_out >= 0,
                  "kind must be [N], num_out at least 0, and tensors must hold the splats");
  const int64_t n = kind.size(0);
  checked<float>(tensors[0], "means", {n, 3});
  checked<float>(tensors[1], "quats", {n, 4});
  checked<float>(tensors[2], "scales", {n, 3});
  checked<float>(tensors[3], "opacities", {n});
  for (const Tensor& t : tensors)
    STD_TORCH_CHECK(t.dim() >= 1 && t.size(0) == n && t.is_cpu() && t.is_contiguous(),
                    "every tensor must have N rows, be contiguous and on the CPU");
  const std::vector<Tensor> out = allocate_rows(tensors, num_out);
  std::vector<Rows> tables;
  for (int64_t i = 0; i < size; ++i) {
    const Tensor& t = tensors[static_cast<size_t>(i)];
    tables.push_back({static_cast<const char*>(t.data_ptr()), data<char>(out[static_cast<size_t>(i)]), row_bytes(t),
                      i >= size - num_moments});
  }
  const ScatterArgs args = {checked<int8_t>(kind, "kind", {n}),
                            n,
                            num_out,
                            tables.data(),
                            static_cast<int>(size),
                            0,
                            1,
                            2,
                            3,
                            static_cast<uint64_t>(key),
                            num_threads()};
  STD_TORCH_CHECK(cpu::densify_scatter(args), "kind does not lead to num_out rows");
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) {
  m.def("densify_accumulate(Tensor(a!) grad_sum, Tensor(b!) count, Tensor probe_grad, Tensor radii) -> ()");
  m.def(
      "densify_classify(Tensor mean_grad, Tensor scales, Tensor opacities, float grow_gradient, float split_scale, "
      "float prune_scale, float prune_opacity, int max_splats) -> (Tensor kind, Tensor counts)");
  m.def("densify_scatter(Tensor[] tensors, int num_moments, Tensor kind, SymInt num_out, int key) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) {
  m.impl("densify_accumulate", TORCH_BOX(&densify_accumulate));
  m.impl("densify_classify", TORCH_BOX(&densify_classify));
  m.impl("densify_scatter", TORCH_BOX(&densify_scatter));
}

}  // namespace sd::bind
