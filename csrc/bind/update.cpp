#include <tuple>
#include <vector>

#include "../common/update.h"
#include "../cpu/densify.h"
#include "../cpu/dispatch.h"
#include "../cuda/update.h"
#include "operator.h"
#include "statistics.h"

// The end of a step.
namespace sd::bind {
namespace {

struct Cpu {
  static void check_gradients(const std::vector<Tensor>& grads, const CheckArgs& args, const Tensor&) {
    bool usable = true;
    for (const Tensor& grad : grads)
      usable = usable && cpu::kernels().usable_gradients(data<float>(grad), grad.numel(), num_threads());
    finish_check(args, usable);
  }

  static void update_splats(const UpdateArgs& args, const StatisticsArgs& statistics, const Tensor&) {
    cpu::densify_accumulate(statistics, num_threads());
    cpu::kernels().adam(args, num_threads());
  }

  static void count_skip(int64_t* counts, const bool* skipped, bool fresh, const Tensor&) {
    sd::count_skip(counts, *skipped, fresh);
  }
};

struct Cuda {
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
};

template <class Backend>
std::tuple<Tensor, Tensor> check_gradients(const std::vector<Tensor>& grads, const Tensor& num_nonfinite,
                                           const Tensor& num_updates, double beta1, double beta2) {
  const Device device = num_nonfinite.device();
  Tensor skip = allocate<bool>(num_nonfinite, {}), correction = allocate<double>(num_nonfinite, {2});
  for (const Tensor& grad : grads) checked_as<float>(grad, "every gradient", grad, device);
  static_assert(sizeof(AdamCorrection) == 2 * sizeof(double));
  Backend::check_gradients(grads,
                           {checked<int64_t>(num_nonfinite, "num_nonfinite", {}, device),
                            checked<float>(num_updates, "num_updates", {}, device),
                            {beta1, beta2, 0.0},
                            data<bool>(skip),
                            data<AdamCorrection>(correction)},
                           num_nonfinite);
  return {skip, correction};
}

// All lists have an entry for each tensor that learns.
template <class Backend>
void update_splats(const std::vector<Tensor>& values, const std::vector<Tensor>& grads,
                   const std::vector<Tensor>& exp_avgs, const std::vector<Tensor>& exp_avg_sqs,
                   const std::vector<double>& rates, const Tensor& skip, const Tensor& correction, double beta1,
                   double beta2, double eps, const Tensor& grad_sum, const Tensor& count, const Tensor& probe_grad,
                   const Tensor& radii) {
  const size_t number = values.size();
  STD_TORCH_CHECK(number <= static_cast<size_t>(kMaxLearned), "8 tensors can learn at most");
  STD_TORCH_CHECK(
      grads.size() == number && exp_avgs.size() == number && exp_avg_sqs.size() == number && rates.size() == number,
      "every tensor needs its gradient, moments and rate");
  STD_TORCH_CHECK(beta1 >= 0.5, "beta1 must be at least 0.5");
  const Device device = grad_sum.device();
  UpdateArgs args = {{},
                     static_cast<int>(number),
                     {beta1, beta2, eps},
                     checked<bool>(skip, "skip", {}, device),
                     reinterpret_cast<const AdamCorrection*>(checked<double>(correction, "correction", {2}, device))};
  for (size_t i = 0; i < number; ++i)
    args.tensors[i] = {checked_as<float>(values[i], "every tensor", values[i], device),
                       checked_as<float>(grads[i], "every gradient", values[i], device),
                       checked_as<float>(exp_avgs[i], "every exp_avg", values[i], device),
                       checked_as<float>(exp_avg_sqs[i], "every exp_avg_sq", values[i], device),
                       values[i].numel(),
                       rates[i]};
  Backend::update_splats(args, statistics_args(grad_sum, count, probe_grad, radii), grad_sum);
}

template <class Backend>
void count_skip(const Tensor& counts, const Tensor& skipped, bool fresh) {
  const Device device = counts.device();
  Backend::count_skip(checked<int64_t>(counts, "counts", {kSkipCounts}, device),
                      checked<bool>(skipped, "skipped", {}, device), fresh, counts);
}

template <class Library>
void define(Library& m) {
  m.def(
      "check_gradients(Tensor[] grads, Tensor num_nonfinite, Tensor(a!) num_updates, float beta1, float beta2) -> "
      "(Tensor skip, Tensor correction)");
  m.def(
      "update_splats(Tensor(a!)[] values, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
      "float[] rates, Tensor skip, Tensor correction, float beta1, float beta2, float eps, Tensor(d!) grad_sum, "
      "Tensor(e!) count, Tensor probe_grad, Tensor radii) -> ()");
  m.def("count_skip(Tensor(a!) counts, Tensor skipped, bool fresh) -> ()");
}

template <class Backend, class Library>
void implement(Library& m) {
  m.impl("check_gradients", TORCH_BOX(&check_gradients<Backend>));
  m.impl("update_splats", TORCH_BOX(&update_splats<Backend>));
  m.impl("count_skip", TORCH_BOX(&count_skip<Backend>));
}

}  // namespace

SD_REGISTER_OPERATORS

}  // namespace sd::bind
