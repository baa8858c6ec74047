// Prints the largest FMA rate of one core, in FLOP per second: independent chains of vector multiply-adds that stay in
// registers. bm_rasterize.py builds it for the machine it runs on, once for each width of vector (SD_WIDTH floats).
#include <chrono>
#include <cstdio>

typedef float Vector __attribute__((vector_size(SD_WIDTH * 4)));

int main() {
  constexpr int kChains = 12;  // more than latency times ports, and within 16 registers
  constexpr long kRounds = 2000000;
  const Vector factor = Vector{} + 0.999999f, term = Vector{} + 1e-6f;
  Vector a = factor, b = a + 1.0f, c = b + 1.0f, d = c + 1.0f, e = d + 1.0f, f = e + 1.0f;
  Vector g = f + 1.0f, h = g + 1.0f, i = h + 1.0f, j = i + 1.0f, k = j + 1.0f, l = k + 1.0f;
  double best = 0.0;
  for (int trial = 0; trial < 20; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    for (long round = 0; round < kRounds; ++round) {
      a = a * factor + term, b = b * factor + term, c = c * factor + term, d = d * factor + term;
      e = e * factor + term, f = f * factor + term, g = g * factor + term, h = h * factor + term;
      i = i * factor + term, j = j * factor + term, k = k * factor + term, l = l * factor + term;
      // Every round's results are wanted, so that none is left out or folded into the next.
      asm volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f));
      asm volatile("" : "+x"(g), "+x"(h), "+x"(i), "+x"(j), "+x"(k), "+x"(l));
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const double rate = 2.0 * SD_WIDTH * kChains * kRounds / seconds.count();
    if (rate > best) best = rate;
  }
  const Vector sum = a + b + c + d + e + f + g + h + i + j + k + l;
  std::printf("%.6e %g\n", best, static_cast<double>(sum[0]));
}
