// core/tensor/shape.h - the sizes of a tensor, outermost first. Activations are [N, H, W, C],
// convolution weights [O, H, W, I], fully connected weights [out, in].
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace convoy {

class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;
  // Throws (kDefect) on more than kMaxRank sizes or a negative one.
  Shape(std::initializer_list<int64_t> sizes);

  int rank() const { return rank_; }
  int64_t operator[](int dimension) const;
  int64_t back() const { return (*this)[rank_ - 1]; }
  // Returns the number of elements; 1 for rank 0.
  int64_t count() const;
  // Returns the same shape with a new outermost size: [H, W, C] -> [n, H, W, C].
  Shape Prepend(int64_t size) const;
  // Returns the same shape without its outermost size.
  Shape DropFirst() const;
  // Returns the same shape with another size at `dimension`.
  Shape With(int dimension, int64_t size) const;

  bool operator==(const Shape&) const = default;
  // Returns "[128,27,27,48]"
  std::string ToString() const;

 private:
  int rank_ = 0;
  std::array<int64_t, kMaxRank> sizes_{};
};

}  // namespace convoy
