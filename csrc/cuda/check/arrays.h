#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "../../common/half.h"
#include "../../common/residual.h"
#include "device.h"

// Numbers on both sides.
namespace sd::check {

// SplitMix64: the same numbers everywhere.
class Random {
public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // Mean 0, variance 1, within 3.5.
  double spread() { return (uniform() + uniform() + uniform() + uniform() - 2.0) * 1.7320508; }
  int64_t below(int64_t end) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(end)); }

private:
  uint64_t state_;
};

inline size_t size_of(Dtype dtype) { return dtype == Dtype::kDouble ? 8 : dtype == Dtype::kFloat ? 4 : 2; }

// Bytes here and there. `offset` bytes lie before the first, so that alignment can be spoilt.
class Both {
public:
  explicit Both(size_t bytes, size_t offset = 0)
      : offset_(offset), host_(bytes + offset + 1), device_(bytes + offset), bytes_(bytes) {}

  char* host() { return host_.data() + offset_; }
  template <class T>
  T* host() {
    return reinterpret_cast<T*>(host());
  }
  template <class T = char>
  T* device() {
    return reinterpret_cast<T*>(device_.data() + offset_);
  }
  size_t bytes() const { return bytes_; }
  void send() { to_device(device(), host(), bytes_); }
  // What the device holds; the host's own bytes stay.
  std::vector<char> fetch() {
    std::vector<char> out(bytes_ + 1);
    to_host(out.data(), device(), bytes_);
    return out;
  }
  bool same() {
    const std::vector<char> there = fetch();
    return std::memcmp(there.data(), host(), bytes_) == 0;
  }
  bool intact() const { return device_.intact(); }

private:
  size_t offset_;
  std::vector<char> host_;
  DeviceBytes device_;
  size_t bytes_;
};

inline void put(char* data, Dtype dtype, int64_t index, double value) {
  const float narrow = static_cast<float>(value);
  const uint16_t half = dtype == Dtype::kHalf ? to_half(narrow) : to_bfloat16(narrow);
  switch (dtype) {
    case Dtype::kFloat:
      std::memcpy(data + 4 * index, &narrow, 4);
      break;
    case Dtype::kDouble:
      std::memcpy(data + 8 * index, &value, 8);
      break;
    default:
      std::memcpy(data + 2 * index, &half, 2);
  }
}

inline double get(const char* data, Dtype dtype, int64_t index) {
  if (dtype == Dtype::kDouble) {
    double value;
    std::memcpy(&value, data + 8 * index, 8);
    return value;
  }
  if (dtype == Dtype::kFloat) {
    float value;
    std::memcpy(&value, data + 4 * index, 4);
    return static_cast<double>(value);
  }
  uint16_t half;
  std::memcpy(&half, data + 2 * index, 2);
  return static_cast<double>(dtype == Dtype::kHalf ? from_half(half) : from_bfloat16(half));
}

// Random numbers of a type; `wild`: some are not finite.
inline void fill(Both& into, Dtype dtype, int64_t count, Random& random, bool wild) {
  for (int64_t i = 0; i < count; ++i) {
    double value = random.spread();
    if (wild && count > 40 && i % 41 == 7) value = std::numeric_limits<double>::quiet_NaN();
    if (wild && count > 40 && i % 43 == 11) value = std::numeric_limits<double>::infinity();
    put(into.host(), dtype, i, value);
  }
  into.send();
}

}  // namespace sd::check
