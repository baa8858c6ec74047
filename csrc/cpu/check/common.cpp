#include <algorithm>
#include <limits>
#include <numeric>

#include "../../common/densify.h"
#include "../densify.h"
#include "check.h"

// Densify and the generator: compiled once, so they are held against plain loops and known answers.
namespace sd::check {
namespace {

constexpr int64_t kSizes[] = {0, 1, 2, 17, 1023, 1024, 1025, 3000};

void statistics_case(Check& check, Random& random, int64_t n, int64_t views) {
  std::vector<float> grad = normals(random, views * n * 2);
  std::vector<int32_t> radii;
  for (int64_t i = 0; i < views * n * 2; ++i) radii.push_back(static_cast<int32_t>(random.next() % 4));
  for (size_t i = 5; i < grad.size(); i += 31) grad[i] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> want = normals(random, n), got = want, two = want;
  std::vector<int64_t> want_count(static_cast<size_t>(n), 7), got_count = want_count, two_count = want_count;
  cpu::densify_accumulate({grad.data(), radii.data(), views, n, got.data(), got_count.data()}, 1);
  cpu::densify_accumulate({grad.data(), radii.data(), views, n, two.data(), two_count.data()}, 2);
  for (int64_t i = 0; i < n; ++i) {
    float sum = 0.0f;
    for (int64_t view = 0; view < views; ++view) {
      const size_t at = static_cast<size_t>(2 * (view * n + i));
      if (radii[at] <= 0 || radii[at + 1] <= 0) continue;
      ++want_count[static_cast<size_t>(i)];
      const float norm = std::sqrt(grad[at] * grad[at] + grad[at + 1] * grad[at + 1]);
      sum += std::isfinite(norm) ? norm : 0.0f;
    }
    want[static_cast<size_t>(i)] += sum;
  }
  check.begin("common", "statistics");
  check.equal(std::to_string(n) + ", sums", got, want);
  check.equal(std::to_string(n) + ", counts", got_count, want_count);
  check.require(std::to_string(n) + ", two threads", got == two && got_count == two_count);
}

// Returns what the splats became.
std::vector<int8_t> classify_case(Check& check, Random& random, int64_t n, int64_t max_splats) {
  std::vector<float> grad = normals(random, n), scales = normals(random, 3 * n), opacities = normals(random, n);
  for (size_t i = 3; i < grad.size(); i += 13) grad[i] = grad[i - 1];  // ties
  for (size_t i = 4; i < grad.size(); i += 29) grad[i] = std::numeric_limits<float>::quiet_NaN();
  for (size_t i = 5; i < scales.size(); i += 41) scales[i] = std::numeric_limits<float>::quiet_NaN();
  const DensifyThresholds limits = {0.2f, 0.8f, 2.0f, -1.5f};
  const size_t size = static_cast<size_t>(n);
  std::vector<int8_t> got(size), two(size), want(size);
  std::vector<int64_t> counts(kSplatKinds), two_counts(kSplatKinds), want_counts(kSplatKinds);
  const ClassifyArgs args = {grad.data(), scales.data(), opacities.data(), n, limits, max_splats};
  cpu::densify_classify(args, got.data(), counts.data(), 1);
  cpu::densify_classify(args, two.data(), two_counts.data(), 2);
  std::vector<size_t> growing;
  int64_t pruned = 0;
  for (size_t i = 0; i < size; ++i) {
    const float* s = scales.data() + 3 * i;
    const bool broken = s[0] != s[0] || s[1] != s[1] || s[2] != s[2];
    const float largest = std::max({s[0], s[1], s[2]});
    const bool prune = opacities[i] < limits.prune_opacity || (!broken && largest > limits.prune_scale);
    want[i] = prune ? kPrune : kKeep;
    pruned += prune;
    if (prune || broken || !(grad[i] >= limits.grow_gradient)) continue;
    want[i] = largest > limits.split_scale ? kSplit : kClone;
    growing.push_back(i);
  }
  std::stable_sort(growing.begin(), growing.end(), [&](size_t a, size_t b) { return grad[a] > grad[b]; });
  const int64_t room = std::max<int64_t>(0, max_splats - (n - pruned));
  for (size_t i = static_cast<size_t>(std::min<int64_t>(room, static_cast<int64_t>(growing.size())));
       i < growing.size(); ++i)
    want[growing[i]] = kKeep;
  for (const int8_t kind : want) ++want_counts[static_cast<size_t>(kind)];
  const std::string name = std::to_string(n) + " with room for " + std::to_string(max_splats);
  check.begin("common", "classify");
  check.equal(name + ", kinds", got, want);
  check.equal(name + ", counts", counts, want_counts);
  check.require(name + ", two threads", got == two && counts == two_counts);
  return got;
}

void scatter_case(Check& check, Random& random, const std::vector<int8_t>& kind) {
  constexpr int64_t kWidths[] = {3, 4, 3, 1, 25, 2, 3, 1};  // floats in a row; the last two are moments
  constexpr int kTables = 8;
  const int64_t n = static_cast<int64_t>(kind.size());
  int64_t rows = 0;
  for (const int8_t k : kind) rows += num_copies(k);
  std::vector<std::vector<float>> in, got, two, want;
  for (const int64_t width : kWidths) {
    in.push_back(normals(random, n * width));
    got.emplace_back(static_cast<size_t>(rows * width), -7.0f);
  }
  two = want = got;
  const auto tables = [&](std::vector<std::vector<float>>& out) {
    std::vector<Rows> list;
    for (size_t i = 0; i < kTables; ++i)
      list.push_back({reinterpret_cast<const char*>(in[i].data()), reinterpret_cast<char*>(out[i].data()),
                      4 * kWidths[i], i >= 6});
    return list;
  };
  const std::vector<Rows> got_tables = tables(got), two_tables = tables(two), want_tables = tables(want);
  check.begin("common", "scatter");
  check.require("rows", cpu::densify_scatter({kind.data(), n, rows, got_tables.data(), kTables, 9}, 1));
  check.require("rows of two threads", cpu::densify_scatter({kind.data(), n, rows, two_tables.data(), kTables, 9}, 2));
  check.require("a wrong number of rows",
                !cpu::densify_scatter({kind.data(), n, rows + 1, got_tables.data(), kTables, 9}, 1));
  int64_t row = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int8_t k = kind[static_cast<size_t>(i)];
    const int64_t first = row;
    for (int copy = 0; copy < num_copies(k); ++copy, ++row)
      for (size_t t = 0; t < kTables; ++t)
        for (int64_t c = 0; c < kWidths[t]; ++c)
          want[t][static_cast<size_t>(row * kWidths[t] + c)] =
              t >= 6 && (copy == 1 || k == kSplit) ? 0.0f : in[t][static_cast<size_t>(i * kWidths[t] + c)];
    if (num_copies(k) == 2) write_children(want_tables.data(), k, 9, i, first);
  }
  for (size_t t = 0; t < kTables; ++t) {
    check.equal(std::to_string(n) + ", table " + std::to_string(t), got[t], want[t]);
    check.require(std::to_string(n) + ", two threads", got[t] == two[t]);
  }
}

// The known answers of Salmon et al.'s own Random123 for philox4x32 with ten rounds, and normals by their formula.
void philox_case(Check& check) {
  struct Answer {
    PhiloxWords counter;
    uint32_t key[2];
    std::vector<uint32_t> words;
  };
  const Answer answers[] = {
      {{{0, 0, 0, 0}}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  check.begin("common", "philox");
  for (const Answer& answer : answers) {
    const PhiloxWords got = philox4x32(answer.counter, answer.key[0], answer.key[1]);
    check.equal("known answers", std::vector<uint32_t>(got.v, got.v + 4), answer.words);
  }
  for (const uint64_t key : {uint64_t{3}, uint64_t{1} << 63, ~uint64_t{0}}) {
    for (const uint64_t id : {uint64_t{0}, uint64_t{1}, uint64_t{12345678901}, ~uint64_t{0}}) {
      std::vector<float> six(6), wanted;
      philox_normal4(key, id, 0, six.data());
      philox_normal2(key, id, 1, six.data() + 4);
      for (uint32_t j = 0; j < 6; ++j) {
        // The counter is the id and the block, low word first.
        const PhiloxWords w = philox4x32({{static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32), j / 4, 0}},
                                         static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
        const double radius = std::sqrt(-2.0 * std::log(philox_uniform(w.v[j % 4 / 2 * 2])));
        const double angle = 6.283185307179586 * philox_uniform(w.v[j % 4 / 2 * 2 + 1]);
        wanted.push_back(static_cast<float>(radius * (j % 2 == 0 ? std::cos(angle) : std::sin(angle))));
      }
      check.equal("normals", six, wanted);
    }
  }
}

void check_common(Check& check) {
  Random random(3);
  philox_case(check);
  for (const int64_t n : kSizes) {
    for (const int64_t views : {0, 1, 5}) statistics_case(check, random, n, views);
    for (const int64_t room : {int64_t{0}, n, n + n / 8, 2 * n})
      scatter_case(check, random, classify_case(check, random, n, room));
  }
}

const Once registered(check_common);

}  // namespace
}  // namespace sd::check
