#pragma once

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../cpu/densify.h"
#include "../../cpu/dispatch.h"
#include "../densify.h"
#include "../gram.h"
#include "../residual.h"
#include "arrays.h"

SD_DECLARE_SIMD_LEVEL(generic)

// Every kernel on the device against the one of csrc/cpu, on the same inputs.
namespace sd::check {

// Counts cases of one kernel, and tells of those that differ.
class Verdict {
public:
  explicit Verdict(const char* name) : name_(name) {}

  void expect(bool good, const std::string& what) {
    ++checks_;
    if (good) return;
    if (++failed_ <= 5) std::printf("{\"failure\": \"%s: %s\"}\n", name_, what.c_str());
  }
  // Returns whether all held.
  bool close() {
    std::printf("{\"values\": \"%s\", \"checks\": %d, \"failed\": %d}\n", name_, checks_, failed_);
    std::fflush(stdout);
    return failed_ == 0;
  }

private:
  const char* name_;
  int checks_ = 0, failed_ = 0;
};

// The cases of a kernel in a .cu file of its own, which registers them with a constant. `thorough`: large sizes too.
struct Registered {
  using Run = void (*)(bool thorough, Verdict& verdict);
  Registered(const char* name, Run run) { all().push_back({name, run}); }
  static std::vector<std::pair<const char*, Run>>& all() {
    static std::vector<std::pair<const char*, Run>> list;
    return list;
  }
};

inline void launched(const char* error) {
  if (error) throw std::runtime_error(error);
  wait();
}

struct Case {
  int64_t views, size;
  int num_terms;
  Dtype x0, terms[3];  // the types of the terms come again
  double clamp;
  size_t offset;  // of every tensor, in elements

  std::string name() const {
    return std::to_string(views) + "x" + std::to_string(size) + ", " + std::to_string(num_terms) + " terms of type " +
           std::to_string(static_cast<int>(terms[0])) + ", x0 " + std::to_string(static_cast<int>(x0)) + ", offset " +
           std::to_string(offset);
  }
  Dtype term(int k) const { return terms[k % 3]; }
  Dtype computed() const { return x0 == Dtype::kDouble ? Dtype::kDouble : Dtype::kFloat; }
  int64_t elements() const { return views * size; }

  std::unique_ptr<Both> draw(Dtype dtype, Random& random, bool wild) const {
    auto made = std::make_unique<Both>(static_cast<size_t>(elements()) * size_of(dtype), offset * size_of(dtype));
    fill(*made, dtype, elements(), random, wild);
    return made;
  }
  std::unique_ptr<Both> draw_small(int64_t count, Random& random) const {
    auto made = std::make_unique<Both>(static_cast<size_t>(count) * size_of(computed()));
    fill(*made, computed(), count, random, false);
    return made;
  }
};

// The gradient to the bit. Sums differ in their order: a float adds up at most 16 values on a CPU and 4 here before it
// goes on in double, so a sum of n such values is off by at most 24 units in the last place of the sum of magnitudes.
inline void check_residual(const Case& c, Verdict& verdict) {
  Random random(1);
  const auto coef = c.draw_small(c.num_terms * c.views, random), weight = c.draw_small(c.views, random);
  std::vector<std::unique_ptr<Both>> terms;
  for (int k = 0; k < c.num_terms; ++k) terms.push_back(c.draw(c.term(k), random, true));
  const size_t word = size_of(c.computed()), bytes = static_cast<size_t>(c.elements()) * size_of(c.x0);
  Both grad(bytes, c.offset * size_of(c.x0)), norms(word * static_cast<size_t>(c.views)), count(8), ticket(8);
  Both here(sizeof(ResidualSums) * static_cast<size_t>(c.views * num_chunks(c.size)));
  Both there(sizeof(ResidualSums) * static_cast<size_t>(cuda::residual_workspace(c.views, c.size)));
  ticket.send();
  ResidualArgs a = {};
  a.num_terms = c.num_terms, a.num_views = c.views, a.view_size = c.size, a.dtype = c.x0;
  a.clamp = c.clamp, a.inverse_views = 1.0 / static_cast<double>(c.views + 1);
  ResidualArgs on_host = a, on_device = a;
  for (int k = 0; k < c.num_terms; ++k) {
    on_host.terms[k] = {terms[static_cast<size_t>(k)]->host(), c.term(k)};
    on_device.terms[k] = {terms[static_cast<size_t>(k)]->device(), c.term(k)};
  }
  on_host.coef = coef->host(), on_device.coef = coef->device();
  on_host.weight = weight->host(), on_device.weight = weight->device();
  on_host.grad = grad.host(), on_device.grad = grad.device();
  on_host.norms = norms.host(), on_device.norms = norms.device();
  on_host.num_nonfinite = count.host<int64_t>(), on_device.num_nonfinite = count.device<int64_t>();
  on_host.sums = here.host<ResidualSums>(), on_device.sums = there.device<ResidualSums>();
  on_device.ticket = ticket.device<uint64_t>();
  cpu::generic::residual(on_host, 1);
  launched(cuda::residual(on_device, nullptr));
  verdict.expect(grad.same(), c.name() + ": gradient");
  verdict.expect(count.same(), c.name() + ": count of numbers that are not finite");
  verdict.expect(ticket.same(), c.name() + ": the ticket is not 0 again");
  const double unit = c.computed() == Dtype::kDouble ? 0x1p-53 : 0x1p-24;
  const std::vector<char> lengths = norms.fetch();
  for (int64_t view = 0; view < c.views; ++view) {
    const double want = get(norms.host(), c.computed(), view);
    const bool close = std::abs(get(lengths.data(), c.computed(), view) - want) <= 24.0 * unit * want;
    verdict.expect(close, c.name() + ": norm of view " + std::to_string(view));
  }
  verdict.expect(grad.intact() && norms.intact() && count.intact() && there.intact() && ticket.intact(),
                 c.name() + ": written beyond the end");
}

inline void check_noising(const Case& c, Verdict& verdict) {
  Random random(2);
  const auto x0 = c.draw(c.x0, random, true), eps = c.draw(c.term(0), random, true);
  const auto alpha = c.draw_small(c.views, random), sigma = c.draw_small(c.views, random);
  Both noised(x0->bytes(), c.offset * size_of(c.x0));
  const NoisingArgs on_host = {
      {x0->host(), c.x0}, {eps->host(), c.term(0)}, alpha->host(), sigma->host(), c.views, c.size, noised.host()};
  const NoisingArgs on_device = {
      {x0->device(), c.x0}, {eps->device(), c.term(0)}, alpha->device(), sigma->device(), c.views, c.size,
      noised.device()};
  cpu::generic::noising(on_host, 1);
  launched(cuda::noising(on_device, nullptr));
  const std::vector<char> got = noised.fetch();
  bool equal = true;  // which of its bits a NaN has set is nobody's business
  for (int64_t i = 0; i < c.elements(); ++i) {
    const double a = get(got.data(), c.x0, i), b = get(noised.host(), c.x0, i);
    equal = equal && (a == b || (a != a && b != b));
  }
  verdict.expect(equal, c.name());
  verdict.expect(noised.intact(), c.name() + ": written beyond the end");
}

// To 1e-12 of what is added: sums of at most 2^21 doubles, in another order.
inline void check_gram(const Case& c, Verdict& verdict) {
  Random random(3);
  std::vector<std::unique_ptr<Both>> terms;
  for (int k = 0; k < c.num_terms; ++k) terms.push_back(c.draw(c.term(k), random, false));
  const auto rows = static_cast<size_t>(c.views * c.num_terms),
             chunks = static_cast<size_t>(c.views * num_chunks(c.size));
  Both sums(8 * rows), gram(8 * rows * static_cast<size_t>(c.num_terms));
  Both workspace(8 * chunks * static_cast<size_t>(num_gram_entries(c.num_terms)));
  GramArgs on_host = {
      {}, c.num_terms, c.views, c.size, sums.host<double>(), gram.host<double>(), workspace.host<double>()};
  GramArgs on_device = {
      {}, c.num_terms, c.views, c.size, sums.device<double>(), gram.device<double>(), workspace.device<double>()};
  for (int k = 0; k < c.num_terms; ++k) {
    on_host.terms[k] = {terms[static_cast<size_t>(k)]->host(), c.term(k)};
    on_device.terms[k] = {terms[static_cast<size_t>(k)]->device(), c.term(k)};
  }
  cpu::generic::gram(on_host, 1);
  launched(cuda::gram(on_device, nullptr));
  const auto near = [&](Both& both) {
    const std::vector<char> got = both.fetch();
    bool good = true;  // no term is longer than 3.5 and no product than 12.25
    for (int64_t i = 0; i < static_cast<int64_t>(both.bytes() / 8); ++i)
      good = good && std::abs(get(got.data(), Dtype::kDouble, i) - get(both.host(), Dtype::kDouble, i)) <=
                         1e-12 * 12.25 * static_cast<double>(c.size);
    return good && both.intact();
  };
  verdict.expect(near(sums), c.name() + ": sums");
  verdict.expect(near(gram), c.name() + ": gram");
  verdict.expect(workspace.intact(), c.name() + ": written beyond the end");
}

// What a render leaves for the statistics of densify.
struct Seen {
  Seen(int64_t views, int64_t n)
      : grad(8 * static_cast<size_t>(views * n)),
        radii(grad.bytes()),
        sum(4 * static_cast<size_t>(n)),
        count(8 * static_cast<size_t>(n)),
        num_views(views),
        n(n) {
    Random random(static_cast<uint64_t>(n));
    fill(grad, Dtype::kFloat, 2 * views * n, random, true);
    for (int64_t i = 0; i < 2 * views * n; ++i) radii.host<int32_t>()[i] = static_cast<int32_t>(random.below(4)) - 1;
    radii.send();
    fill(sum, Dtype::kFloat, n, random, false);
    for (int64_t i = 0; i < n; ++i) count.host<int64_t>()[i] = i;
    count.send();
  }
  StatisticsArgs on_host() {
    return {grad.host<float>(), radii.host<int32_t>(), num_views, n, sum.host<float>(), count.host<int64_t>()};
  }
  StatisticsArgs on_device() {
    return {grad.device<float>(), radii.device<int32_t>(), num_views, n, sum.device<float>(), count.device<int64_t>()};
  }

  Both grad, radii, sum, count;
  int64_t num_views, n;
};

// To the bit: the views are added in the same order.
inline void check_statistics(int64_t n, int64_t views, Verdict& verdict) {
  Seen seen(views, n);
  launched(cuda::densify_accumulate(seen.on_device(), nullptr));
  cpu::densify_accumulate(seen.on_host(), 1);
  const std::string name = std::to_string(n) + " splats, " + std::to_string(views) + " views";
  verdict.expect(seen.sum.same() && seen.count.same(), name);
  verdict.expect(seen.sum.intact() && seen.count.intact(), name + ": written beyond the end");
}

// Every splat becomes the same, ties and numbers that are not finite included.
inline void check_masks(int64_t n, double budget, Verdict& verdict) {
  Random random(static_cast<uint64_t>(n) + 7);
  const auto bytes = 4 * static_cast<size_t>(n);
  Both grad(bytes), scales(3 * bytes), opacities(bytes), kind(static_cast<size_t>(n)), counts(8 * kSplatKinds), grow(4);
  fill(scales, Dtype::kFloat, 3 * n, random, true);
  fill(opacities, Dtype::kFloat, n, random, true);
  for (int64_t i = 0; i < n; ++i) put(grad.host(), Dtype::kFloat, i, static_cast<double>(random.below(13) - 1) / 8.0);
  grad.send();
  put(grow.host(), Dtype::kFloat, 0, 0.5);
  grow.send();
  Both workspace(cuda::classify_workspace(n));
  const DensifyThresholds thresholds = {0.5f, 0.1f, 1.5f, -1.0f};
  const auto max_splats = static_cast<int64_t>(budget * static_cast<double>(n));
  const ClassifyArgs on_host = {grad.host<float>(), scales.host<float>(), opacities.host<float>(), n, thresholds,
                                max_splats};
  const ClassifyArgs on_device = {
      grad.device<float>(), scales.device<float>(), opacities.device<float>(), n, thresholds, max_splats};
  cpu::densify_classify(on_host, kind.host<int8_t>(), counts.host<int64_t>(), 1);
  for (const float* threshold : {static_cast<float*>(nullptr), grow.device<float>()}) {
    launched(cuda::densify_classify(on_device, threshold, kind.device<int8_t>(), counts.device<int64_t>(),
                                    workspace.device(), nullptr));
    const std::string name = std::to_string(n) + " splats, budget " + std::to_string(max_splats);
    verdict.expect(kind.same() && counts.same(), name);
    verdict.expect(kind.intact() && counts.intact() && workspace.intact(), name + ": written beyond the end");
  }
}

// Rows and their order exactly; means, scales and opacities of children to 1e-6, as expf and its like may be a unit
// off.
inline void check_scatter(int64_t n, int copies, Verdict& verdict) {
  Random random(static_cast<uint64_t>(n) + 11);
  std::vector<size_t> rows = {12, 16, 12, 4, 12, 180, 8, 5, 14, 0, 10};
  const size_t tensors = rows.size();
  for (int copy = 0; copy < copies; ++copy)
    for (const size_t bytes : {size_t{12}, size_t{16}, size_t{180}}) rows.push_back(bytes);
  Both kind(static_cast<size_t>(n));
  int64_t num_out = 0;
  for (int64_t i = 0; i < n; ++i) {
    kind.host<int8_t>()[i] = static_cast<int8_t>(random.below(4));
    num_out += num_copies(kind.host<int8_t>()[i]);
  }
  kind.send();
  std::vector<std::unique_ptr<Both>> in, out;
  std::vector<Rows> on_host, on_device;
  for (size_t t = 0; t < rows.size(); ++t) {
    const size_t offset = rows[t] % 4 == 2 ? 2 : 0;
    in.push_back(std::make_unique<Both>(rows[t] * static_cast<size_t>(n), offset));
    out.push_back(std::make_unique<Both>(rows[t] * static_cast<size_t>(num_out), offset));
    if (t < 4) {
      fill(*in[t], Dtype::kFloat, static_cast<int64_t>(rows[t] / 4) * n, random, false);
    } else {
      for (size_t i = 0; i < in[t]->bytes(); ++i) in[t]->host()[i] = static_cast<char>(random.bits());
      in[t]->send();
    }
    const bool moments = t >= tensors;
    on_host.push_back({in[t]->host(), out[t]->host(), static_cast<int64_t>(rows[t]), moments});
    on_device.push_back({in[t]->device(), out[t]->device(), static_cast<int64_t>(rows[t]), moments});
  }
  Both workspace(cuda::scatter_workspace(n));
  constexpr uint64_t kKey = (uint64_t{1} << 40) + 7;
  const int number = static_cast<int>(rows.size());
  const std::string name = std::to_string(n) + " splats, " + std::to_string(number) + " tables";
  const bool done = cpu::densify_scatter({kind.host<int8_t>(), n, num_out, on_host.data(), number, kKey}, 1);
  verdict.expect(done, name + ": the CPU refuses");
  launched(cuda::densify_scatter({kind.device<int8_t>(), n, num_out, on_device.data(), number, kKey},
                                 workspace.device(), nullptr));
  for (size_t t = 0; t < rows.size(); ++t) {
    bool good = out[t]->intact();
    if (t == kMeans || t == kScales || t == kOpacities) {
      const std::vector<char> got = out[t]->fetch();
      const int64_t numbers = static_cast<int64_t>(rows[t] / 4) * num_out;
      double largest = 1.0;  // a child lies e^scale away from its parent: its roundings are of the table's largest size
      for (int64_t i = 0; i < numbers; ++i)
        largest = std::max(largest, std::abs(get(out[t]->host(), Dtype::kFloat, i)));
      for (int64_t i = 0; i < numbers; ++i) {
        const double away = std::abs(get(got.data(), Dtype::kFloat, i) - get(out[t]->host(), Dtype::kFloat, i));
        good = good && away <= 1e-6 * largest;
      }
    } else {
      good = good && out[t]->same();
    }
    verdict.expect(good, name + ": table " + std::to_string(t));
  }
  verdict.expect(workspace.intact(), name + ": workspace");
}

}  // namespace sd::check
