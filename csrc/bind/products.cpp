#include <tuple>
#include <vector>

#include "../cpu/levels.h"
#include "../cuda/products.h"
#include "operator.h"
#include "sources.h"

// Sums and products of scores.
namespace sd::bind {
namespace {

struct Cpu {
  static void products(const ProductArgs& args, const Tensor&) { cpu::kernels().products(args, num_threads()); }
};

struct Cuda {
  static void products(const ProductArgs& args, const Tensor& like) {
    const Queue queue(like);
    check_launch(cuda::products(args, queue.stream));
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> products_forward(const std::vector<Tensor>& terms) {
  STD_TORCH_CHECK(!terms.empty() && terms.size() <= static_cast<size_t>(kMaxTerms), "1 to 8 terms are possible");
  const Tensor& like = terms[0];
  const int64_t num_terms = static_cast<int64_t>(terms.size()), views = like.size(0), size = view_size(like);
  Tensor sums = allocate<double>(like, {views, num_terms}),
         products = allocate<double>(like, {views, num_terms, num_terms}),
         chunks = allocate<double>(like, {views * num_chunks(size), num_products(static_cast<int>(num_terms))});
  ProductArgs args = {
      {}, static_cast<int>(num_terms), views, size, data<double>(sums), data<double>(products), data<double>(chunks)};
  for (size_t k = 0; k < terms.size(); ++k) args.terms[k] = source_of(terms[k], like, "every term");
  Backend::products(args, like);
  return {sums, products};
}

template <class Library>
void define(Library& m) {
  m.def("products_forward(Tensor[] terms) -> (Tensor sums, Tensor products)");
}

template <class Backend, class Library>
void implement(Library& m) {
  m.impl("products_forward", TORCH_BOX(&products_forward<Backend>));
}

}  // namespace

SD_REGISTER_OPERATORS

}  // namespace sd::bind
