// core/tensor/tensor.h - a view of typed, shaped, contiguous memory that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/device/memory.h"
#include "core/error.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"

namespace convoy {

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  Shape shape;

  int64_t count() const { return shape.count(); }
  int64_t bytes() const { return count() * SizeOf(dtype); }
  explicit operator bool() const { return data != nullptr; }

  // Returns the elements as T. Throws (kDefect) when T is not the tensor's type.
  template <typename T>
  T* As() const {
    CONVOY_CHECK(DTypeOf<T>::value == dtype, "{} asked of a {} tensor {}",
                 NameOf(DTypeOf<T>::value), NameOf(dtype), shape.ToString());
    return static_cast<T*>(data);
  }

  // Returns rows [begin, begin + count) of the outermost dimension.
  Tensor Rows(int64_t begin, int64_t row_count) const {
    CONVOY_CHECK(begin >= 0 && row_count >= 0 && begin + row_count <= shape[0], "rows {}+{} of {}",
                 begin, row_count, shape.ToString());
    const int64_t row_bytes = shape.DropFirst().count() * SizeOf(dtype);
    return {static_cast<std::byte*>(data) + begin * row_bytes, dtype, shape.With(0, row_count)};
  }

  // Returns elements [begin, begin + count) of the flattened tensor, as a tensor of rank 1.
  Tensor Range(int64_t begin, int64_t element_count) const {
    CONVOY_CHECK(begin >= 0 && element_count >= 0 && begin + element_count <= count(),
                 "elements {}+{} of {}", begin, element_count, shape.ToString());
    return {static_cast<std::byte*>(data) + begin * SizeOf(dtype), dtype, Shape{element_count}};
  }

  // Returns the same elements under another shape of the same count.
  Tensor Reshape(const Shape& other) const {
    CONVOY_CHECK(other.count() == count(), "{} as {}", shape.ToString(), other.ToString());
    return {data, dtype, other};
  }
};

// Returns the start of `buffer` as a tensor. Throws (kDefect) when the buffer is too small.
inline Tensor ViewOf(const Buffer& buffer, DType dtype, const Shape& shape) {
  CONVOY_CHECK(shape.count() * SizeOf(dtype) <= buffer.bytes(), "{} {} in {} bytes", NameOf(dtype),
               shape.ToString(), buffer.bytes());
  return {buffer.data(), dtype, shape};
}

}  // namespace convoy
