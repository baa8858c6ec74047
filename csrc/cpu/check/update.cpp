#include <limits>
#include <utility>

#include "check.h"

// The end of a step. It is compiled without contraction and rounds once only where it says so: every level gives the
// same bits.
namespace sd::check {
namespace {

constexpr int64_t kSizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, 12301};
constexpr AdamSettings kAdam = {0.9, 0.99, 1e-15};

// What learns, and after a call what it has become.
struct Learning {
  std::vector<float> values, grads, exp_avgs, exp_avg_sqs;

  std::vector<float> all() const {
    std::vector<float> out = values;
    out.insert(out.end(), exp_avgs.begin(), exp_avgs.end());
    out.insert(out.end(), exp_avg_sqs.begin(), exp_avg_sqs.end());
    return out;
  }
  Learned args(double rate) {
    return {values.data(), grads.data(), exp_avgs.data(), exp_avg_sqs.data(), static_cast<int64_t>(values.size()),
            rate};
  }
};

Learning draw(Random& random, int64_t size) {
  Learning out = {normals(random, size), normals(random, size), normals(random, size), normals(random, size)};
  for (float& x : out.exp_avg_sqs) x *= x;
  return out;
}

std::vector<float> ran(const Kernels& level, Learning tensors, double rate, const AdamCorrection& correction, bool skip,
                       int threads) {
  UpdateArgs args = {{tensors.args(rate)}, 1, kAdam, &skip, &correction};
  level.adam(args, threads);
  return tensors.all();
}

void adam_case(Check& check, const Kernels& level, const Kernels& generic, Random& random, int64_t size) {
  Learning tensors = draw(random, size);
  const double rate = random.uniform(1e-3, 1e-1);
  const float t = static_cast<float>(1 + random.next() % 50);
  const AdamCorrection correction = adam_correction(kAdam, t);
  const std::string name = std::to_string(size);
  check.begin(level.name, "adam");
  const std::vector<float> got = ran(level, tensors, rate, correction, false, 1);
  check.equal(name, got, ran(generic, tensors, rate, correction, false, 1));
  check.equal(name + ", two threads", got, ran(level, tensors, rate, correction, false, 2));
  check.equal(name + ", skipped", ran(level, tensors, rate, correction, true, 1), tensors.all());
  // Adam as the paper has it, in double. A moment is within 3 roundings of what it is added up from, and so is the
  // other; its root and the quotient add 5 more, and the sum one of the value.
  const size_t n = tensors.values.size();
  std::vector<double> want(3 * n), bound(3 * n);
  for (size_t i = 0; i < n; ++i) {
    const double g = static_cast<double>(tensors.grads[i]), m = static_cast<double>(tensors.exp_avgs[i]),
                 v = static_cast<double>(tensors.exp_avg_sqs[i]), x = static_cast<double>(tensors.values[i]);
    const double mean = 0.9 * m + (1.0 - 0.9) * g, square = 0.99 * v + (1.0 - 0.99) * g * g;
    const double sizes = 3.0 * (0.9 * std::fabs(m) + 0.2 * std::fabs(g)) * kUnit;
    const double root = std::sqrt(square) / correction.second_root, step = rate / correction.first / root;
    want[i] = x - step * mean;
    want[n + i] = mean;
    want[2 * n + i] = square;
    bound[i] = step * (sizes + 8.0 * std::fabs(mean) * kUnit) + 2.0 * (std::fabs(x) + step * std::fabs(mean)) * kUnit;
    bound[n + i] = sizes;
    bound[2 * n + i] = 4.0 * square * kUnit;
  }
  check.within(name + " against double", got, want, bound);
}

void usable_case(Check& check, const Kernels& level, Random& random, int64_t size) {
  std::vector<float> grads = normals(random, size);
  check.begin(level.name, "usable");
  const auto is_usable = [&] {
    const std::vector<int> both = {level.usable_gradients(grads.data(), size, 1),
                                   level.usable_gradients(grads.data(), size, 2)};
    return both;
  };
  check.equal(std::to_string(size), is_usable(), std::vector<int>{1, 1});
  constexpr float kBad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), 1.9e19f};
  for (const size_t at : {size_t{0}, grads.size() / 2, grads.size() - 1})
    for (const float bad : kBad) {
      if (grads.empty()) continue;
      const float good = std::exchange(grads[at], bad);
      check.equal(std::to_string(size) + " with one that is not", is_usable(), std::vector<int>{0, 0});
      grads[at] = good;
    }
}

void check_update(Check& check, const Kernels& level, const Kernels& generic) {
  Random random(4);
  for (const int64_t size : kSizes) {
    adam_case(check, level, generic, random, size);
    usable_case(check, level, random, size);
  }
}

const EachSimdLevel registered(check_update);

}  // namespace
}  // namespace sd::check
