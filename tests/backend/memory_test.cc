// A backend's memory: what is allocated, copied, reordered and converted in it.
#include <cmath>
#include <limits>

#include "tests/backend/tested.h"

namespace convoy {
namespace {

class MemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    backend_ = MakeTestedBackend(2);
    stream_ = backend_->MakeStream();
  }
  // Returns a tensor in the tested backend's memory.
  Tensor Make(DType dtype, const Shape& shape) {
    memory_.push_back(backend_->Allocate(shape.count() * SizeOf(dtype)));
    return ViewOf(memory_.back(), dtype, shape);
  }
  std::vector<double> Values(const Tensor& tensor) { return ValuesOf(*backend_, *stream_, tensor); }
  void Set(const Tensor& tensor, const std::vector<double>& values) {
    SetValues(*backend_, *stream_, tensor, values);
  }

  std::unique_ptr<Backend> backend_;
  std::vector<Buffer> memory_;
  std::unique_ptr<Stream> stream_;
};

TEST_F(MemoryTest, IsZeroedAndHoldsWhatIsCopied) {
  for (const int64_t count : {int64_t{1}, int64_t{1000003}}) {
    const Tensor tensor = Make(DType::kFloat32, Shape{count});
    EXPECT_EQ(Values(tensor), std::vector<double>(static_cast<size_t>(count), 0));
    const auto values = RandomValues(count, 1);
    Set(tensor, values);
    EXPECT_EQ(Values(tensor), values);
  }
}

TEST_F(MemoryTest, IsCopiedToFromStagingMemoryByTheStream) {
  constexpr int64_t kCount = 70001;
  const Buffer staging = backend_->AllocateStaging(kCount * SizeOf(DType::kFloat32));
  const Tensor host = ViewOf(staging, DType::kFloat32, Shape{kCount});
  for (int64_t i = 0; i < kCount; ++i) host.As<float>()[i] = static_cast<float>(i);
  const Tensor first = Make(DType::kFloat32, host.shape),
               second = Make(DType::kFloat32, host.shape);
  stream_->Copy(first.data, host.data, host.bytes());
  stream_->Copy(second.data, first.data, host.bytes());
  const auto values = Values(second);
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<double>(i));
}

// blocks [G, N, ..., C] and whole [N, ..., G*C].
TEST_F(MemoryTest, JoinsAndSplitsChannels) {
  for (const DType dtype : TestedTypes()) {
    for (const Shape& shape :
         {Shape{2, 3, 5, 4, 48}, Shape{3, 2, 7}, Shape{2, 5, 1}, Shape{1, 4, 2, 3, 6}}) {
      const int64_t groups = shape[0], channels = shape.back();
      const int64_t places = shape.count() / groups / channels;
      const Shape whole_shape = shape.DropFirst();
      const Tensor blocks = Make(dtype, shape), back = Make(dtype, shape);
      const Tensor whole = Make(dtype, whole_shape.With(whole_shape.rank() - 1, groups * channels));
      const auto values = RandomValues(blocks.count(), 3);
      Set(blocks, values);
      backend_->ConcatenateChannels(*stream_, blocks, whole);
      const auto joined = Values(whole);
      for (int64_t i = 0; i < whole.count(); ++i) {
        const int64_t place = i / (groups * channels), channel = i % (groups * channels);
        const int64_t block = channel / channels;
        EXPECT_EQ(
            joined[static_cast<size_t>(i)],
            values[static_cast<size_t>((block * places + place) * channels + channel % channels)]);
      }
      backend_->SplitChannels(*stream_, whole, back);
      EXPECT_EQ(Values(back), values);
    }
  }
}

// As core/tensor/dtype.h rounds, to the last bit; of what is not a number only that it is none.
TEST_F(MemoryTest, ConvertsToTheNearestNumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> numbers = {0.0f,        -0.0f,     1.0f,      1 + 0x1p-8f,   1 + 0x1.8p-7f,
                                1 - 0x1p-9f, 3.3e38f,   -3.3e38f,  3.4028235e38f, infinity,
                                -infinity,   0x1p-130f, 0x1p-149f, std::nanf("")};
  for (const double value : RandomValues(1001, 2)) {
    numbers.push_back(static_cast<float>(value) * 1.2345678f);
  }
  const Shape shape{std::ssize(numbers)};
  const Tensor from = Make(DType::kFloat32, shape), to = Make(DType::kBFloat16, shape);
  const Tensor back = Make(DType::kFloat32, shape);
  SetElements(*backend_, *stream_, from, numbers);
  backend_->ConvertTensor(*stream_, from, to);
  backend_->ConvertTensor(*stream_, to, back);
  const auto narrow = ElementsOf<BFloat16>(*backend_, *stream_, to);
  const auto wide = ElementsOf<float>(*backend_, *stream_, back);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (std::isnan(numbers[i])) {
      EXPECT_TRUE(std::isnan(static_cast<float>(narrow[i])));
      EXPECT_TRUE(std::isnan(wide[i]));
      continue;
    }
    EXPECT_EQ(narrow[i].bits, BFloat16(numbers[i]).bits) << numbers[i];
    EXPECT_EQ(wide[i], static_cast<float>(narrow[i])) << numbers[i];
  }
}

}  // namespace
}  // namespace convoy
