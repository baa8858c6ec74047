// Runs every CUDA kernel and its CPU twin on the same inputs, then takes their times. Needs neither Python nor torch:
//
//   kernels_check [--small] [--no-timings]
//
// --small: no large inputs, for compute-sanitizer. One JSON object a line. Exit code: 0 all agree, 1 some do not, 2
// wrong usage, 3 the device fails. build.py beside this file compiles it, also for a machine without nvcc: then a host
// runs the kernels in loops, which shows everything but races and speed.
#include <exception>
#include <string_view>

#include "timings.h"

int main(int argc, char** argv) {
  bool small = false, timings = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--small") {
      small = true;
    } else if (word == "--no-timings") {
      timings = false;
    } else {
      std::fprintf(stderr, "usage: %s [--small] [--no-timings]\n", argv[0]);
      return 2;
    }
  }
  try {
    const std::string device = sd::check::device_name();
    std::printf("{\"device\": \"%s\"}\n", device.c_str());
    const bool good = sd::check::check_values(!small);
    if (timings) sd::check::time_all(small || device == "cpu");
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    std::printf("{\"failure\": \"the device: %s\"}\n", error.what());
    return 3;
  }
}
