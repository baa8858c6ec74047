#include <limits>

#include "../../common/half.h"
#include "check.h"

// residual, noising and gram. They are compiled without contraction and add up in one order, so every level gives
// the same bits; the elements equal a plain loop, the sums are held against the double of it.
namespace sd::check {
namespace {

constexpr int64_t kSizes[] = {0, 1, 3, 15, 16, 17, 31, 33, 511, 513, 4095, 4097, 8200};
constexpr double kDouble = 0x1p-53;

struct Tensor {
  Dtype dtype;
  std::vector<double> doubles;
  std::vector<float> floats;
  std::vector<uint16_t> halves;

  Source source() const {
    if (dtype == Dtype::kDouble) return {doubles.data(), dtype};
    if (dtype == Dtype::kFloat) return {floats.data(), dtype};
    return {halves.data(), dtype};
  }
  double at(size_t i) const {
    if (dtype == Dtype::kDouble) return doubles[i];
    if (dtype == Dtype::kFloat) return static_cast<double>(floats[i]);
    return static_cast<double>(dtype == Dtype::kHalf ? from_half(halves[i]) : from_bfloat16(halves[i]));
  }
};

Tensor make_tensor(Random& random, Dtype dtype, int64_t size, bool broken) {
  constexpr float kOdd[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), 1e-40f, -0.0f};  // 1e-40: subnormal
  Tensor t{dtype, {}, {}, {}};
  for (int64_t i = 0; i < size; ++i) {
    const float x = broken && i % 7 == 3 ? kOdd[i / 7 % 5] : static_cast<float>(random.normal());
    if (dtype == Dtype::kDouble) t.doubles.push_back(static_cast<double>(x));
    if (dtype == Dtype::kFloat) t.floats.push_back(x);
    if (dtype == Dtype::kHalf) t.halves.push_back(to_half(x));
    if (dtype == Dtype::kBFloat16) t.halves.push_back(to_bfloat16(x));
  }
  return t;
}

// As raw bytes, so that one comparison serves all types.
struct ResidualResult {
  std::vector<unsigned char> grad, norms;
  std::vector<int64_t> nonfinite;
};

template <class T>
ResidualResult run_residual(const Kernels& level, Dtype dtype, const std::vector<Tensor>& terms,
                            const std::vector<T>& coef, const std::vector<T>& weight, double clamp, int64_t views,
                            int64_t size, int threads) {
  const size_t bytes = dtype == Dtype::kDouble ? 8 : dtype == Dtype::kFloat ? 4 : 2;
  ResidualResult r{std::vector<unsigned char>(static_cast<size_t>(views * size) * bytes),
                   std::vector<unsigned char>(static_cast<size_t>(views) * sizeof(T)), std::vector<int64_t>(1)};
  std::vector<ResidualSums> sums(static_cast<size_t>(views * num_chunks(size)) + 1);
  ResidualArgs args = {{},
                       coef.data(),
                       weight.data(),
                       static_cast<int>(terms.size()),
                       views,
                       size,
                       clamp,
                       0.25,
                       r.grad.data(),
                       dtype,
                       r.norms.data(),
                       r.nonfinite.data(),
                       sums.data(),
                       nullptr};
  for (size_t k = 0; k < terms.size(); ++k) args.terms[k] = terms[k].source();
  level.residual(args, threads);
  return r;
}

template <class T>
void residual_case(Check& check, const Kernels& level, const Kernels& generic, Random& random, Dtype dtype,
                   int num_terms, int64_t size, bool broken) {
  const int64_t views = 3;
  std::vector<Tensor> terms;
  for (int k = 0; k < num_terms; ++k)
    terms.push_back(make_tensor(random, static_cast<Dtype>((k + static_cast<int>(dtype)) % 4), views * size, broken));
  std::vector<T> coef, weight;
  for (int64_t i = 0; i < num_terms * views; ++i) coef.push_back(static_cast<T>(random.normal()));
  for (int64_t i = 0; i < views; ++i) weight.push_back(static_cast<T>(random.uniform(0.1, 2.0)));
  const double clamp = num_terms % 2 == 0 ? 0.75 : std::numeric_limits<double>::infinity();
  const std::string name = std::to_string(num_terms) + " terms of " + std::to_string(size);
  check.begin(level.name, "residual");
  const ResidualResult got = run_residual<T>(level, dtype, terms, coef, weight, clamp, views, size, 1);
  const ResidualResult two = run_residual<T>(level, dtype, terms, coef, weight, clamp, views, size, 2);
  const ResidualResult want = run_residual<T>(generic, dtype, terms, coef, weight, clamp, views, size, 1);
  check.equal(name + ", gradient", got.grad, want.grad);
  check.equal(name + ", norms", got.norms, want.norms);
  check.equal(name + ", count of non-finite", got.nonfinite, want.nonfinite);
  check.require(name + ", two threads", got.grad == two.grad && got.norms == two.norms);

  // A plain loop. The kernel adds squares of T in 32 sums of at most kBlock/32 = 16 numbers, then in double: within 17
  // roundings of T and as many of double as there are sums. The root halves that, and is rounded itself.
  std::vector<double> squared(static_cast<size_t>(views)), slack;
  int64_t nonfinite = 0;
  std::vector<T> grad;
  for (int64_t i = 0; i < views * size; ++i) {
    T sum = 0;
    for (int k = 0; k < num_terms; ++k) {
      const T product = coef[static_cast<size_t>(k * views + i / size)] *
                        static_cast<T>(terms[static_cast<size_t>(k)].at(static_cast<size_t>(i)));
      sum = k == 0 ? product : sum + product;
    }
    sum *= weight[static_cast<size_t>(i / size)];
    nonfinite += !std::isfinite(sum);
    if (!std::isfinite(sum)) sum = 0;
    sum = std::fmax(std::fmin(sum, static_cast<T>(clamp)), static_cast<T>(-clamp));
    grad.push_back(sum * static_cast<T>(0.25));
    squared[static_cast<size_t>(i / size)] += static_cast<double>(sum) * static_cast<double>(sum);
  }
  check.require(name + ", non-finite numbers counted", got.nonfinite[0] == nonfinite);
  if (got.grad.size() == grad.size() * sizeof(T)) {
    std::vector<T> numbers(grad.size());
    if (!grad.empty()) std::memcpy(numbers.data(), got.grad.data(), got.grad.size());
    check.within(name + ", gradient against a plain loop", numbers, grad, std::vector<double>(grad.size(), 0.0));
  }
  const double unit = sizeof(T) == 4 ? kUnit : kDouble;
  std::vector<T> norms(static_cast<size_t>(views));
  std::memcpy(norms.data(), got.norms.data(), got.norms.size());
  for (double& square : squared) {
    square = std::sqrt(square);
    slack.push_back(square * (10.0 * unit + static_cast<double>(size) * kDouble));
  }
  check.within(name + ", norms against a plain loop", norms, squared, slack);
}

void noising_case(Check& check, const Kernels& level, const Kernels& generic, Random& random, Dtype dtype,
                  int64_t size) {
  const int64_t views = 2;
  const Tensor x0 = make_tensor(random, dtype, views * size, true),
               eps = make_tensor(random, Dtype::kFloat, views * size, true);
  const double alpha[] = {0.8, 0.3}, sigma[] = {0.6, 0.95};
  const float narrow_alpha[] = {0.8f, 0.3f}, narrow_sigma[] = {0.6f, 0.95f};
  const bool wide = dtype == Dtype::kDouble;
  const size_t bytes = wide ? 8 : dtype == Dtype::kFloat ? 4 : 2;
  const auto run = [&](const Kernels& kernels, int threads) {
    std::vector<unsigned char> noised(static_cast<size_t>(views * size) * bytes);
    kernels.noising({x0.source(), eps.source(), wide ? static_cast<const void*>(alpha) : narrow_alpha,
                     wide ? static_cast<const void*>(sigma) : narrow_sigma, views, size, noised.data()},
                    threads);
    return noised;
  };
  check.begin(level.name, "noising");
  const std::vector<unsigned char> got = run(level, 1);
  check.equal(std::to_string(size), got, run(generic, 1));
  check.equal(std::to_string(size) + ", two threads", got, run(level, 2));
  if (dtype != Dtype::kFloat) return;
  std::vector<float> numbers(got.size() / 4), want;
  if (!numbers.empty()) std::memcpy(numbers.data(), got.data(), got.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    const size_t view = i / static_cast<size_t>(size);
    want.push_back(narrow_alpha[view] * x0.floats[i] + narrow_sigma[view] * eps.floats[i]);
  }
  check.within(std::to_string(size) + " against a plain loop", numbers, want, std::vector<double>(want.size(), 0.0));
}

void gram_case(Check& check, const Kernels& level, const Kernels& generic, Random& random, int num_terms, int64_t size,
               bool broken) {
  const int64_t views = 2, k = num_terms;
  std::vector<Tensor> terms;
  for (int i = 0; i < num_terms; ++i)
    terms.push_back(make_tensor(random, static_cast<Dtype>(i % 4), views * size, broken));
  const auto run = [&](const Kernels& kernels, int threads) {
    std::vector<double> out(static_cast<size_t>(views * k + views * k * k));
    std::vector<double> chunks(static_cast<size_t>(views * num_chunks(size) * num_gram_entries(num_terms)) + 1);
    GramArgs args = {{}, num_terms, views, size, out.data(), out.data() + views * k, chunks.data()};
    for (int i = 0; i < num_terms; ++i) args.terms[i] = terms[static_cast<size_t>(i)].source();
    kernels.gram(args, threads);
    return out;
  };
  const std::string name = std::to_string(num_terms) + " terms of " + std::to_string(size);
  check.begin(level.name, "gram");
  const std::vector<double> got = run(level, 1);
  // NaN as a result has no one bit pattern, so those are compared as numbers.
  check.within(name, got, run(generic, 1), std::vector<double>(got.size(), 0.0));
  check.within(name + ", two threads", got, run(level, 2), std::vector<double>(got.size(), 0.0));
  if (broken) return;
  for (int64_t view = 0; view < views; ++view)
    for (int64_t a = 0; a < k; ++a)
      for (int64_t b = 0; b < k; ++b) {
        double sum = 0.0, scale = 0.0;
        for (int64_t i = view * size; i < (view + 1) * size; ++i) {
          const double x = terms[static_cast<size_t>(a)].at(static_cast<size_t>(i)) *
                           terms[static_cast<size_t>(b)].at(static_cast<size_t>(i));
          sum += x;
          scale += std::fabs(x);
        }
        const double product = got[static_cast<size_t>(views * k + (view * k + a) * k + b)];
        check.within(name + " against a plain loop", std::vector<double>{product}, std::vector<double>{sum},
                     {2.0 * static_cast<double>(size) * kDouble * scale});
      }
}

void check_scores(Check& check, const Kernels& level, const Kernels& generic) {
  Random random(2);
  for (const int64_t size : kSizes)
    for (int dtype = 0; dtype < 4; ++dtype) {
      const int num_terms = 1 + static_cast<int>(random.next() % kMaxTerms);
      const bool wide = static_cast<Dtype>(dtype) == Dtype::kDouble;
      for (const bool broken : {false, true})
        (wide ? residual_case<double> : residual_case<float>)(check, level, generic, random, static_cast<Dtype>(dtype),
                                                              num_terms, size, broken);
      noising_case(check, level, generic, random, static_cast<Dtype>(dtype), size);
      for (const bool broken : {false, true}) gram_case(check, level, generic, random, num_terms, size, broken);
    }
}

const EachSimdLevel registered(check_scores);

}  // namespace
}  // namespace sd::check
