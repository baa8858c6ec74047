#pragma once

#include "../update.h"
#include "values.h"

// The end of a step, device against host.
namespace sd::check {

// Splats of degree 3, their gradients and moments. `offset` bytes spoil the alignment.
struct Tables {
  explicit Tables(int64_t n, size_t offset) {
    Random random(static_cast<uint64_t>(n) + offset);
    for (const int64_t width : {3, 4, 3, 1, 3, 45}) {
      const auto bytes = static_cast<size_t>(4 * width * n);
      for (auto* list : {&values, &grads, &exp_avgs, &exp_avg_sqs}) {
        list->push_back(std::make_unique<Both>(bytes, offset));
        fill(*list->back(), Dtype::kFloat, width * n, random, false);
      }
      float* squares = exp_avg_sqs.back()->host<float>();
      for (int64_t i = 0; i < width * n; ++i) squares[i] *= squares[i];
      exp_avg_sqs.back()->send();
      sizes.push_back(width * n);
    }
  }
  UpdateArgs args(bool on_host, AdamSettings settings) {
    UpdateArgs out = {};
    out.num_tensors = static_cast<int>(sizes.size()), out.settings = settings;
    const auto at = [&](Both& both) { return on_host ? both.host<float>() : both.device<float>(); };
    for (size_t i = 0; i < sizes.size(); ++i)
      out.tensors[i] = {at(*values[i]),      at(*grads[i]), at(*exp_avgs[i]),
                        at(*exp_avg_sqs[i]), sizes[i],      0.01 / static_cast<double>(i + 1)};
    return out;
  }

  std::vector<std::unique_ptr<Both>> values, grads, exp_avgs, exp_avg_sqs;
  std::vector<int64_t> sizes;
};

constexpr AdamSettings kAdam = {0.9, 0.99, 1e-15};

// What is not finite is found wherever it lies, and only then. fault: 0 none; 1 a NaN in the last element of all; 2 a
// number with an infinite square in the first; 3 one that was found before. Twice as many tensors as a launch takes.
inline void check_gradients(int64_t n, int fault, Verdict& verdict) {
  Tables tables(n, fault == 1 ? 4 : 0);
  Both nonfinite(8), updates(4), skip(1), correction(sizeof(AdamCorrection)), ticket(8);
  ticket.send();
  *nonfinite.host<int64_t>() = fault == 3 ? 2 : 0;
  nonfinite.send();
  *updates.host<float>() = 6.0f;
  updates.send();
  Both& first = *tables.grads.front();
  Both& last = *tables.grads.back();
  if (n > 0 && fault == 1) last.host<float>()[tables.sizes.back() - 1] = std::numeric_limits<float>::quiet_NaN();
  if (n > 0 && fault == 2) first.host<float>()[0] = 2e19f;
  first.send();
  last.send();
  std::vector<cuda::Gradients> grads;
  for (int copy = 0; copy < (n < 1000 ? 25 : 1); ++copy)
    for (size_t i = 0; i < tables.sizes.size(); ++i) {
      const size_t source = fault == 2 && copy > 0 ? 1 : i;  // the first launch alone finds it
      grads.push_back({tables.grads[source]->device<float>(), tables.sizes[source]});
    }
  bool usable = true;
  for (size_t i = 0; i < tables.sizes.size(); ++i)
    usable = cpu::generic::usable_gradients(tables.grads[i]->host<float>(), tables.sizes[i], 1) && usable;
  finish_check(
      {nonfinite.host<int64_t>(), updates.host<float>(), kAdam, skip.host<bool>(), correction.host<AdamCorrection>()},
      usable);
  launched(cuda::check_gradients(grads.data(), static_cast<int>(grads.size()),
                                 {nonfinite.device<int64_t>(), updates.device<float>(), kAdam, skip.device<bool>(),
                                  correction.device<AdamCorrection>()},
                                 ticket.device<uint64_t>(), nullptr));
  const std::string name = std::to_string(n) + " splats, fault " + std::to_string(fault);
  verdict.expect(*skip.host<bool>() == (fault == 3 || (fault != 0 && n > 0)), name + ": the CPU is wrong");
  verdict.expect(skip.same() && updates.same() && ticket.same(), name);
  const std::vector<char> got = correction.fetch();
  for (int i = 0; i < 2; ++i) {  // pow may be a few units off in double
    const double want = get(correction.host(), Dtype::kDouble, i);
    verdict.expect(std::abs(get(got.data(), Dtype::kDouble, i) - want) <= 1e-14 * want, name + ": correction");
  }
  verdict.expect(skip.intact() && updates.intact() && ticket.intact() && correction.intact(),
                 name + ": written beyond the end");
}

// Splats, moments and statistics to the bit, aligned or not; and nothing but the statistics where a step is skipped.
inline void check_update(int64_t n, int updates, Verdict& verdict) {
  for (const size_t offset : {size_t{0}, size_t{4}})
    for (const bool skips : {false, true}) {
      Tables tables(n, offset);
      Seen seen(3, n);
      Both skip(1), correction(sizeof(AdamCorrection));
      *skip.host<bool>() = skips;
      skip.send();
      *correction.host<AdamCorrection>() = adam_correction(kAdam, static_cast<float>(updates));
      correction.send();
      UpdateArgs on_host = tables.args(true, kAdam), on_device = tables.args(false, kAdam);
      on_host.skip = skip.host<bool>(), on_device.skip = skip.device<bool>();
      on_host.correction = correction.host<AdamCorrection>();
      on_device.correction = correction.device<AdamCorrection>();
      cpu::generic::adam(on_host, 1);
      cpu::densify_accumulate(seen.on_host(), 1);
      launched(cuda::update_splats(on_device, seen.on_device(), nullptr));
      const std::string name = std::to_string(n) + " splats, update " + std::to_string(updates) + ", offset " +
                               std::to_string(offset) + (skips ? ", skipped" : "");
      verdict.expect(seen.sum.same() && seen.count.same(), name + ": statistics");
      for (size_t i = 0; i < tables.sizes.size(); ++i)
        for (auto* list : {&tables.values, &tables.exp_avgs, &tables.exp_avg_sqs})
          verdict.expect((*list)[i]->same() && (*list)[i]->intact(), name + ": tensor " + std::to_string(i));
    }
}

inline void check_counts(Verdict& verdict) {
  Both counts(8 * kSkipCounts), skipped(1);
  counts.send();
  for (int step = 0; step < 60; ++step) {
    *skipped.host<bool>() = step % 7 == 2 || step % 7 == 3 || step == 25;
    skipped.send();
    sd::count_skip(counts.host<int64_t>(), *skipped.host<bool>(), step % 30 == 0);
    launched(cuda::count_skip(counts.device<int64_t>(), skipped.device<bool>(), step % 30 == 0, nullptr));
    verdict.expect(counts.same() && counts.intact(), "step " + std::to_string(step));
  }
  verdict.expect(counts.host<int64_t>()[kLongestRow] == 3, "the longest row");
}

}  // namespace sd::check
