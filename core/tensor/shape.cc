#include "core/tensor/shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace convoy {

Shape::Shape(std::initializer_list<int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  CONVOY_CHECK(rank_ <= kMaxRank, "rank {}", rank_);
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
  for (int64_t size : sizes) CONVOY_CHECK(size >= 0, "size {}", size);
}

int64_t Shape::operator[](int dimension) const {
  CONVOY_CHECK(dimension >= 0 && dimension < rank_, "dimension {} of {}", dimension, ToString());
  return sizes_[static_cast<size_t>(dimension)];
}

int64_t Shape::count() const {
  int64_t count = 1;
  for (int i = 0; i < rank_; ++i) count *= sizes_[static_cast<size_t>(i)];
  return count;
}

Shape Shape::Prepend(int64_t size) const {
  CONVOY_CHECK(rank_ < kMaxRank);
  Shape result;
  result.rank_ = rank_ + 1;
  result.sizes_[0] = size;
  std::copy_n(sizes_.begin(), rank_, result.sizes_.begin() + 1);
  return result;
}

Shape Shape::DropFirst() const {
  CONVOY_CHECK(rank_ > 0);
  Shape result;
  result.rank_ = rank_ - 1;
  std::copy_n(sizes_.begin() + 1, result.rank_, result.sizes_.begin());
  return result;
}

Shape Shape::With(int dimension, int64_t size) const {
  CONVOY_CHECK(dimension >= 0 && dimension < rank_);
  Shape result = *this;
  result.sizes_[static_cast<size_t>(dimension)] = size;
  return result;
}

std::string Shape::ToString() const {
  return fmt::format("[{}]", fmt::join(sizes_.begin(), sizes_.begin() + rank_, ","));
}

}  // namespace convoy
