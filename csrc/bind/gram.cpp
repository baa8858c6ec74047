#include <tuple>
#include <vector>

#include "../cpu/dispatch.h"
#include "../cuda/gram.h"
#include "operator.h"
#include "sources.h"

// Sums and Gram matrix of scores.
namespace sd::bind {
namespace {

struct Cpu {
  static void gram(const GramArgs& args, const Tensor&) { cpu::kernels().gram(args, num_threads()); }
};

struct Cuda {
  static void gram(const GramArgs& args, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::gram(args, queue.stream));
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> gram_forward(const std::vector<Tensor>& terms) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  const Tensor& like = terms[0];
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = like.size(0), size = view_size(like);
  Tensor sums = allocate<double>(like, {views, num_terms}),
         gram = allocate<double>(like, {views, num_terms, num_terms}),
         chunks = allocate<double>(like, {views * num_chunks(size), num_gram_entries(static_cast<int>(num_terms))});
  GramArgs args = {
      {}, static_cast<int>(num_terms), views, size, data<double>(sums), data<double>(gram), data<double>(chunks)};
  for (size_t k = 0; k < terms.size(); ++k) args.terms[k] = source_of(terms[k], like, "every term");
  Backend::gram(args, like);
  return {sums, gram};
}

template <class Library>
void define(Library& m) {
  m.def("gram_forward(Tensor[] terms) -> (Tensor sums, Tensor gram)");
}

template <class Backend, class Library>
void implement(Library& m) {
  m.impl("gram_forward", TORCH_BOX(&gram_forward<Backend>));
}

}  // namespace

SD_REGISTER_OPERATORS

}  // namespace sd::bind
