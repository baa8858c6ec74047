#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../cpu/dispatch.h"
#include "../cuda/residual.h"
#include "operator.h"
#include "sources.h"

// The distillation gradient, and the noising before it.
namespace sd::bind {
namespace {

struct Cpu {
  static int64_t residual_workspace(int64_t num_views, int64_t view_size) { return num_views * num_chunks(view_size); }
  static void residual(const ResidualArgs& args, const Tensor&) { cpu::kernels().residual(args, num_threads()); }
  static void noising(const NoisingArgs& args, const Tensor&) { cpu::kernels().noising(args, num_threads()); }
};

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
};

template <class Backend, class T>
std::tuple<Tensor, Tensor, Tensor> run_residual(const Tensor& like, const std::vector<Tensor>& terms,
                                                const Tensor& coef, const Tensor& weight, double clamp,
                                                int64_t total_views) {
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = like.size(0);
  Tensor norms = allocate<T>(like, {views}), count = allocate<int64_t>(like, {}),
         grad = torch::stable::empty_like(like);
  const int64_t num_sums = Backend::residual_workspace(views, view_size(like));
  Tensor workspace = allocate<int64_t>(like, {num_sums * static_cast<int64_t>(sizeof(ResidualSums) / sizeof(int64_t))});
  ResidualArgs args = {{},
                       checked<T>(coef, "coef", {num_terms, views}, like.device()),
                       checked<T>(weight, "weight", {views}, like.device()),
                       static_cast<int>(num_terms),
                       views,
                       view_size(like),
                       clamp,
                       1.0 / static_cast<double>(total_views),
                       grad.mutable_data_ptr(),
                       source_of(grad, like, "the gradient").dtype,
                       norms.mutable_data_ptr(),
                       data<int64_t>(count),
                       data<ResidualSums>(workspace),
                       nullptr};
  for (size_t k = 0; k < terms.size(); ++k) args.terms[k] = source_of(terms[k], like, "every term");
  Backend::residual(args, like);
  return {norms, count, grad};
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> residual_forward(const Tensor& like, const std::vector<Tensor>& terms,
                                                    const Tensor& coef, const Tensor& weight,
                                                    std::optional<double> clamp, int64_t total_views) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  const double limit = clamp.value_or(std::numeric_limits<double>::infinity());
  const bool wide = like.scalar_type() == ScalarType::Double;
  const auto run = wide ? run_residual<Backend, double> : run_residual<Backend, float>;
  return run(like, terms, coef, weight, limit, total_views);
}

template <class Backend>
Tensor noising_forward(const Tensor& x0, const Tensor& eps, const Tensor& alpha, const Tensor& sigma) {
  const Source source = source_of(x0, x0, "x0");
  const auto per_view = [&](const Tensor& t, const char* name) -> const void* {
    if (source.dtype == Dtype::kDouble) return checked<double>(t, name, {x0.size(0)}, x0.device());
    return checked<float>(t, name, {x0.size(0)}, x0.device());
  };
  Tensor noised = torch::stable::empty_like(x0);
  Backend::noising({source, source_of(eps, x0, "eps"), per_view(alpha, "alpha"), per_view(sigma, "sigma"), x0.size(0),
                    view_size(x0), noised.mutable_data_ptr()},
                   x0);
  return noised;
}

template <class Library>
void define(Library& m) {
  m.def(
      "residual_forward(Tensor like, Tensor[] terms, Tensor coef, Tensor weight, float? clamp, int total_views) -> "
      "(Tensor norms, Tensor num_nonfinite, Tensor grad)");
  m.def("noising_forward(Tensor x0, Tensor eps, Tensor alpha, Tensor sigma) -> Tensor");
}

template <class Backend, class Library>
void implement(Library& m) {
  m.impl("residual_forward", TORCH_BOX(&residual_forward<Backend>));
  m.impl("noising_forward", TORCH_BOX(&noising_forward<Backend>));
}

}  // namespace

SD_REGISTER_OPERATORS

}  // namespace sd::bind
