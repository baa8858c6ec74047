#pragma once

#include <tuple>
#include <vector>

#include "../common/products.h"
#include "residual.h"

// The operator for sums and products of scores, for any backend.
namespace sd::bind {

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
void define_products(Library& m) {
  m.def("products_forward(Tensor[] terms) -> (Tensor sums, Tensor products)");
}

template <class Backend, class Library>
void implement_products(Library& m) {
  m.impl("products_forward", TORCH_BOX(&products_forward<Backend>));
}

}  // namespace sd::bind
