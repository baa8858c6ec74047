#pragma once

#include <algorithm>
#include <functional>

#include "cases.h"

// Times of the kernels beside that of a copy which moves as many bytes. Buffers come in turn, more of them than a cache
// holds, so that nothing is read from one.
namespace sd::check {

constexpr size_t kRotated = size_t{256} << 20;
constexpr int kRounds = 5, kCalls = 20;

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// A call is given the number of the buffers that it takes.
using Call = std::function<void(int)>;

inline double milliseconds(const Call& call, int sets, int& next) {
  Timer timer;
  wait();
  hold();
  timer.begin();
  for (int i = 0; i < kCalls; ++i) call(next++ % sets);
  return timer.end_ms() / kCalls;
}

inline void time_beside_copy(const std::string& name, size_t moved, int sets, const Call& call) {
  const int copies = static_cast<int>(kRotated / std::max<size_t>(moved, 1)) + 2, pairs = std::min(copies, 256);
  std::vector<std::unique_ptr<DeviceBytes>> memory;
  for (int i = 0; i < 2 * pairs; ++i) {
    memory.push_back(std::make_unique<DeviceBytes>(moved / 2));
    device_fill(memory.back()->data(), 1, moved / 2);
  }
  const Call copy = [&](int i) {
    device_copy(memory[static_cast<size_t>(2 * i + 1)]->data(), memory[static_cast<size_t>(2 * i)]->data(), moved / 2,
                nullptr);
  };
  int ours_next = 0, copy_next = 0;
  std::vector<double> ours, copied;
  for (int round = 0; round <= kRounds; ++round) {
    const double a = milliseconds(call, sets, ours_next), b = milliseconds(copy, pairs, copy_next);
    if (round == 0) continue;  // warms up
    ours.push_back(a);
    copied.push_back(b);
  }
  const double ms = median(ours), copy_ms = median(copied);
  std::printf(
      "{\"timing\": \"%s\", \"bytes\": %zu, \"ours_ms\": %.6g, \"copy_ms\": %.6g, \"copy_share\": %.4g, "
      "\"gb_per_s\": %.4g}\n",
      name.c_str(), moved, ms, copy_ms, copy_ms / ms, 1e-6 * static_cast<double>(moved) / ms);
  std::fflush(stdout);
}

inline int num_sets(size_t bytes) { return std::min(256, static_cast<int>(kRotated / std::max<size_t>(bytes, 1)) + 2); }

// Device memory that holds finite numbers of any type.
inline std::unique_ptr<DeviceBytes> zeros(size_t bytes) {
  auto made = std::make_unique<DeviceBytes>(bytes);
  device_fill(made->data(), 0, bytes);
  return made;
}

struct Pool {
  std::vector<std::unique_ptr<DeviceBytes>> held;
  char* take(size_t bytes) {
    held.push_back(zeros(bytes));
    return held.back()->data();
  }
};

inline void time_elementwise(int64_t views, int64_t size, Dtype dtype) {
  constexpr int kTerms = 3;
  const auto elements = static_cast<size_t>(views * size);
  const size_t word = size_of(dtype);
  const std::string shape =
      " " + std::to_string(views) + "x" + std::to_string(size) + (dtype == Dtype::kFloat ? " float32" : " bfloat16");
  {
    Pool pool;
    const size_t moved = elements * (kTerms * word + 4);
    std::vector<ResidualArgs> sets;
    for (int i = 0; i < num_sets(moved); ++i) {
      ResidualArgs a = {};
      for (int k = 0; k < kTerms; ++k) a.terms[k] = {pool.take(word * elements), dtype};
      a.coef = pool.take(4 * kTerms * static_cast<size_t>(views)), a.weight = pool.take(4 * static_cast<size_t>(views));
      a.num_terms = kTerms, a.num_views = views, a.view_size = size;
      a.clamp = std::numeric_limits<double>::infinity(), a.inverse_views = 1.0;
      a.grad = pool.take(4 * elements), a.norms = pool.take(4 * static_cast<size_t>(views));
      a.dtype = Dtype::kFloat, a.ticket = reinterpret_cast<uint64_t*>(pool.take(8));
      a.num_nonfinite = reinterpret_cast<int64_t*>(pool.take(8));
      const auto workspace = static_cast<size_t>(cuda::residual_workspace(views, size));
      a.sums = reinterpret_cast<ResidualSums*>(pool.take(workspace * sizeof(ResidualSums)));
      sets.push_back(a);
    }
    time_beside_copy("residual" + shape, moved, static_cast<int>(sets.size()),
                     [&](int i) { cuda::residual(sets[static_cast<size_t>(i)], nullptr); });
  }
  {
    Pool pool;
    const size_t moved = elements * 3 * word;
    std::vector<NoisingArgs> sets;
    for (int i = 0; i < num_sets(moved); ++i) {
      const Source x0 = {pool.take(word * elements), dtype}, eps = {pool.take(word * elements), dtype};
      char *alpha = pool.take(4 * static_cast<size_t>(views)), *sigma = pool.take(4 * static_cast<size_t>(views));
      sets.push_back({x0, eps, alpha, sigma, views, size, pool.take(word * elements)});
    }
    time_beside_copy("noising" + shape, moved, static_cast<int>(sets.size()),
                     [&](int i) { cuda::noising(sets[static_cast<size_t>(i)], nullptr); });
  }
  Pool pool;
  const size_t moved = elements * kTerms * word;
  std::vector<GramArgs> sets;
  for (int i = 0; i < num_sets(moved); ++i) {
    GramArgs a = {};
    for (int k = 0; k < kTerms; ++k) a.terms[k] = {pool.take(word * elements), dtype};
    a.num_terms = kTerms, a.num_views = views, a.view_size = size;
    a.sums = reinterpret_cast<double*>(pool.take(8 * kTerms * static_cast<size_t>(views)));
    a.gram = reinterpret_cast<double*>(pool.take(8 * kTerms * kTerms * static_cast<size_t>(views)));
    const auto chunks = static_cast<size_t>(views * num_chunks(size) * num_gram_entries(kTerms));
    a.chunks = reinterpret_cast<double*>(pool.take(8 * chunks));
    sets.push_back(a);
  }
  time_beside_copy("gram" + shape, moved, static_cast<int>(sets.size()),
                   [&](int i) { cuda::gram(sets[static_cast<size_t>(i)], nullptr); });
}

inline void time_densify(int64_t n) {
  constexpr int64_t kViews = 4;
  constexpr size_t kWords = 59;  // of a splat of degree 3
  const auto rows = static_cast<size_t>(n);
  const std::string size = " " + std::to_string(n);
  {
    Pool pool;
    const size_t moved = rows * (16 * kViews + 24);
    std::vector<std::function<void()>> sets;
    for (int i = 0; i < num_sets(moved); ++i) {
      auto* grad = reinterpret_cast<float*>(pool.take(8 * kViews * rows));
      char* radii = pool.take(8 * kViews * rows);
      device_fill(radii, 1, 8 * kViews * rows);
      auto* sum = reinterpret_cast<float*>(pool.take(4 * rows));
      auto* count = reinterpret_cast<int64_t*>(pool.take(8 * rows));
      const StatisticsArgs args = {grad, reinterpret_cast<int32_t*>(radii), kViews, n, sum, count};
      sets.emplace_back([=] { cuda::densify_accumulate(args, nullptr); });
    }
    time_beside_copy("statistics" + size, moved, static_cast<int>(sets.size()),
                     [&](int i) { sets[static_cast<size_t>(i)](); });
  }
  Random random(5);
  Both grad(4 * rows), scales(12 * rows), opacities(4 * rows), kind(rows), counts(8 * kSplatKinds);
  fill(grad, Dtype::kFloat, n, random, false);
  fill(scales, Dtype::kFloat, 3 * n, random, false);
  fill(opacities, Dtype::kFloat, n, random, false);
  Both workspace(std::max(cuda::classify_workspace(n), cuda::scatter_workspace(n)));
  for (const int64_t budget : {2 * n, n + n / 20}) {
    const ClassifyArgs args = {
        grad.device<float>(), scales.device<float>(), opacities.device<float>(), n, {1.6f, 0.1f, 9.0f, -2.0f}, budget};
    time_beside_copy((budget == 2 * n ? "classify" : "classify with a budget") + size, rows * 21, 1, [&](int) {
      cuda::densify_classify(args, nullptr, kind.device<int8_t>(), counts.device<int64_t>(), workspace.device(),
                             nullptr);
    });
  }
  for (int64_t i = 0; i < n; ++i) {  // 5 % clone, 5 % split, 2 % go
    const double draw = random.uniform();
    kind.host<int8_t>()[i] = draw < 0.05 ? kClone : draw < 0.1 ? kSplit : draw < 0.12 ? kPrune : kKeep;
  }
  kind.send();
  int64_t num_out = 0;
  for (int64_t i = 0; i < n; ++i) num_out += num_copies(kind.host<int8_t>()[i]);
  Pool pool;
  std::vector<Rows> tables;
  for (int copy = 0; copy < 3; ++copy)  // the splats and both moments
    for (const int64_t bytes : {12, 16, 12, 4, 12, 180}) {
      const auto width = static_cast<size_t>(bytes);
      char* in = pool.take(width * rows);
      tables.push_back({in, pool.take(width * static_cast<size_t>(num_out)), bytes, copy > 0});
    }
  const ScatterArgs args = {kind.device<int8_t>(), n, num_out, tables.data(), static_cast<int>(tables.size()), 7};
  time_beside_copy("scatter" + size, 4 * 3 * kWords * (rows + static_cast<size_t>(num_out)), 1,
                   [&](int) { cuda::densify_scatter(args, workspace.device(), nullptr); });
}

// Of splats of degree 3, four views. The check reads the gradients; the update reads them, the splats and both moments,
// and writes all but the gradients.
inline void time_update(int64_t n) {
  constexpr int64_t kViews = 4, kWords = 59;
  const auto rows = static_cast<size_t>(n), bytes = 4 * kWords * rows, statistics = rows * (16 * kViews + 24);
  Pool pool;
  std::vector<UpdateArgs> sets;
  for (int i = 0; i < num_sets(7 * bytes); ++i) {
    UpdateArgs a = {};
    for (const int64_t width : {3, 4, 3, 1, 3, 45}) {
      const auto take = [&] { return reinterpret_cast<float*>(pool.take(4 * static_cast<size_t>(width * n))); };
      a.tensors[a.num_tensors++] = {take(), take(), take(), take(), width * n, 1e-3};
    }
    a.settings = kAdam, a.skip = reinterpret_cast<bool*>(pool.take(1));
    a.correction = reinterpret_cast<AdamCorrection*>(pool.take(sizeof(AdamCorrection)));
    sets.push_back(a);
  }
  StatisticsArgs seen = {reinterpret_cast<float*>(pool.take(8 * kViews * rows)),
                         nullptr,
                         kViews,
                         n,
                         reinterpret_cast<float*>(pool.take(4 * rows)),
                         reinterpret_cast<int64_t*>(pool.take(8 * rows))};
  seen.radii = reinterpret_cast<int32_t*>(pool.take(8 * kViews * rows));
  auto* nonfinite = reinterpret_cast<int64_t*>(pool.take(8));
  auto* updates = reinterpret_cast<float*>(pool.take(4));
  auto* ticket = reinterpret_cast<uint64_t*>(pool.take(8));
  const std::string size = " " + std::to_string(n);
  time_beside_copy("check" + size, bytes, static_cast<int>(sets.size()), [&](int i) {
    const UpdateArgs& a = sets[static_cast<size_t>(i)];
    cuda::Gradients grads[kMaxLearned];
    for (int t = 0; t < a.num_tensors; ++t) grads[t] = {a.tensors[t].grads, a.tensors[t].size};
    cuda::check_gradients(
        grads, a.num_tensors,
        {nonfinite, updates, kAdam, const_cast<bool*>(a.skip), const_cast<AdamCorrection*>(a.correction)}, ticket,
        nullptr);
  });
  time_beside_copy("update" + size, 7 * bytes + statistics, static_cast<int>(sets.size()),
                   [&](int i) { cuda::update_splats(sets[static_cast<size_t>(i)], seen, nullptr); });
}

// From the largest to the smallest: time may run out.
inline void time_all(bool tiny) {
  using Shape = std::pair<int64_t, int64_t>;
  const std::vector<int64_t> sizes = tiny ? std::vector<int64_t>{1000} : std::vector<int64_t>{1000000, 100000};
  const std::vector<Shape> shapes =
      tiny ? std::vector<Shape>{{2, 1024}}
           : std::vector<Shape>{{64, 3 * 512 * 512}, {16, 3 * 512 * 512}, {4, 3 * 512 * 512}, {4, 4 * 64 * 64}};
  for (const int64_t n : sizes) {
    time_densify(n);
    time_update(n);
  }
  for (const auto& [views, size] : shapes)
    for (const Dtype dtype : {Dtype::kFloat, Dtype::kBFloat16}) time_elementwise(views, size, dtype);
}

}  // namespace sd::check
