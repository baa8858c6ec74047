#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../dispatch.h"

// What the cases share: seeded inputs, and comparisons that are counted.
namespace sd::check {

using namespace cpu;

constexpr double kUnit = 0x1p-24;  // a rounding to float moves a number by at most this part of it

// SplitMix64 of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
class Random {
public:
  explicit Random(uint64_t seed) : state_(seed) {}
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  double normal() { return std::sqrt(-2.0 * std::log(1.0 - uniform())) * std::cos(6.283185307179586 * uniform()); }
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

private:
  uint64_t state_;
};

inline std::vector<float> normals(Random& random, int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = static_cast<float>(random.normal());
  return out;
}

// Counts comparisons and failures. `planted`: the kernel one of whose results is changed before it is compared, to show
// that a wrong one is noticed.
class Check {
public:
  explicit Check(std::string planted) : planted_(std::move(planted)) {}

  void begin(const char* level, const char* kernel) {
    level_ = level;
    kernel_ = kernel;
    plants_ = planted_ == kernel;
    knows_plant_ |= plants_;
  }

  // Whether the kernel to plant a fault in is one that was checked, or there is none.
  bool knows_plant() const { return knows_plant_ || planted_.empty(); }

  void require(const std::string& what, bool holds) {
    ++comparisons;
    if (!holds) fail(what);
  }

  // The same bits.
  template <class T>
  void equal(const std::string& what, std::vector<T> got, const std::vector<T>& want) {
    if (plants_ && !got.empty()) {
      reinterpret_cast<unsigned char*>(got.data() + got.size() / 2)[0] ^= 1;
      plants_ = false;
    }
    require(what, got.size() == want.size() && std::memcmp(got.data(), want.data(), sizeof(T) * got.size()) == 0);
  }

  // |got - want| <= bound, number by number; NaN is equal to NaN alone.
  template <class T, class U>
  void within(const std::string& what, std::vector<T> got, const std::vector<U>& want,
              const std::vector<double>& bound) {
    if (plants_ && !got.empty()) {
      const size_t at = got.size() / 2;
      got[at] = static_cast<T>(want[at] + 2.0 * bound[at] + 1e-3 * (1.0 + std::fabs(want[at])));
      plants_ = false;
    }
    ++comparisons;
    for (size_t i = 0; i < got.size(); ++i) {
      const double a = static_cast<double>(got[i]), b = static_cast<double>(want[i]), error = std::fabs(a - b);
      if (a == b || (a != a && b != b)) continue;
      if (error <= bound[i]) {
        closest = std::fmax(closest, error / bound[i]);
        continue;
      }
      char text[160];
      std::snprintf(text, sizeof text, ": number %zu is %.9g, not %.9g within %.3g", i, a, b, bound[i]);
      return fail(what + text);
    }
  }

  int64_t comparisons = 0, failures = 0;
  double closest = 0.0;  // the largest error over its bound

private:
  void fail(const std::string& what) {
    if (++failures <= 20) std::printf("FAILED %s, %s: %s\n", level_.c_str(), kernel_.c_str(), what.c_str());
  }

  std::string planted_, level_, kernel_;
  bool plants_ = false, knows_plant_ = false;
};

// A file's cases, which it registers with a constant: `EachSimdLevel`, to be run at every level, or `Once`, for what
// has no levels. `generic` stands for what has been checked before; where both are the same, a kernel is checked
// against arithmetic in double or plain loops.
template <class... Levels>
struct Cases {
  using Run = void (*)(Check&, const Levels&...);
  explicit Cases(Run run) { all().push_back(run); }
  static std::vector<Run>& all() {
    static std::vector<Run> list;
    return list;
  }
};
using EachSimdLevel = Cases<Kernels, Kernels>;
using Once = Cases<>;

}  // namespace sd::check
