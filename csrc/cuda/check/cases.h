#pragma once

#include "update.h"

// Every kernel on inputs of every size and type.
namespace sd::check {

// All kernels; `thorough`: large sizes too. Returns whether every check held.
inline bool check_values(bool thorough) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  constexpr Dtype kF = Dtype::kFloat, kD = Dtype::kDouble, kH = Dtype::kHalf, kB = Dtype::kBFloat16;
  std::vector<Case> cases;
  for (int k = 1; k <= kMaxTerms; ++k)
    for (const double clamp : {kNone, 0.5}) cases.push_back({3, 1152, k, kF, {kF, kF, kF}, clamp, 0});
  for (const Dtype x0 : {kF, kD, kH, kB})
    for (const Dtype term : {kF, kD, kH, kB}) {
      cases.push_back({2, 644, 3, x0, {term, kF, term}, kNone, 0});
      cases.push_back({3, 321, 3, x0, {kH, kB, term}, kNone, 0});
      cases.push_back({2, 4096, 2, x0, {term, term, term}, kNone, 1});
    }
  for (const int64_t size : {0, 1, 4095, 4096, 4097, 4100, 9001})
    cases.push_back({2, size, 2, kF, {kH, kD, kH}, kNone, 0});
  for (const int64_t views : {0, 1, 17, 1300}) cases.push_back({views, 64, 2, kF, {kF, kF, kF}, kNone, 0});
  if (thorough) cases.push_back({1, 300 * 4096 + 4, 2, kF, {kF, kH, kF}, kNone, 0});
  Verdict residual("residual"), noising("noising"), gram("gram");
  for (const Case& c : cases) {
    check_residual(c, residual);
    check_noising(c, noising);
    check_gram(c, gram);
  }
  bool good = residual.close();
  good = noising.close() && good;
  good = gram.close() && good;
  Verdict statistics("statistics"), masks("masks"), scatter("scatter");
  std::vector<int64_t> sizes = {0, 1, 2, 255, 256, 257, 2048, 4097};
  if (thorough) sizes.push_back(300001);
  for (const int64_t n : sizes) {
    for (const int64_t views : {0, 1, 5}) check_statistics(n, views, statistics);
    for (const double budget : {0.0, 0.8, 0.9, 1.0, 1.07, 1.2, 2.0}) check_masks(n, budget, masks);
    check_scatter(n, n < 1000 ? 20 : 4, scatter);
  }
  good = statistics.close() && good;
  good = masks.close() && good;
  good = scatter.close() && good;
  Verdict check("check"), update("update"), counts("counts");
  for (const int64_t n : sizes) {
    for (const int fault : {0, 1, 2, 3}) check_gradients(n, fault, check);
    for (const int updates : {1, 2, 1000}) check_update(n, updates, update);
  }
  check_counts(counts);
  good = check.close() && good;
  good = update.close() && good;
  good = counts.close() && good;
  for (const auto& [name, run] : Registered::all()) {
    Verdict verdict(name);
    run(thorough, verdict);
    good = verdict.close() && good;
  }
  return good;
}

}  // namespace sd::check
