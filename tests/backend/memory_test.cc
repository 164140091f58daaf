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

TEST(ShareOf, IsAsEvenAsCanBe) {
  const auto counts = [](int64_t total, int64_t parts) {
    std::vector<int64_t> result;
    int64_t begin = 0;
    for (int64_t part = 0; part < parts; ++part) {
      const ChannelSlice share = ShareOf(total, parts, part);
      EXPECT_EQ(share.begin, begin);
      EXPECT_EQ(share.total, total);
      begin += share.count;
      result.push_back(share.count);
    }
    EXPECT_EQ(begin, total);
    return result;
  };
  EXPECT_EQ(counts(10, 4), (std::vector<int64_t>{3, 3, 2, 2}));
  EXPECT_EQ(counts(1000, 3), (std::vector<int64_t>{334, 333, 333}));
  EXPECT_EQ(counts(4096, 4), (std::vector<int64_t>{1024, 1024, 1024, 1024}));
  EXPECT_EQ(counts(7, 1), (std::vector<int64_t>{7}));
  EXPECT_EQ(ShareOf(10, 4, 4), (ChannelSlice{10, 0, 10}));
}

// blocks [G, N, ..., ceil(C / G)] and whole [N, ..., C]. What lies beyond a block's own channels
// stays as it was.
TEST_F(MemoryTest, JoinsAndSplitsChannels) {
  struct Case {
    int64_t groups;
    Shape whole;
  };
  constexpr double kUntouched = 0.5;
  for (const DType dtype : TestedTypes()) {
    for (const auto& [groups, shape] :
         {Case{2, {3, 5, 4, 96}}, Case{3, {2, 21}}, Case{2, {5, 2}}, Case{1, {4, 2, 3, 6}},
          Case{4, {3, 2, 10}}, Case{3, {5, 1000}}, Case{3, {2, 2, 3, 4}}, Case{1, {3, 7}},
          Case{8, {2, 5}}}) {
      const int64_t channels = shape.back(), places = shape.count() / channels;
      const Shape block_shape = shape.With(shape.rank() - 1, (channels + groups - 1) / groups);
      const int64_t capacity = block_shape.count();
      const Tensor whole = Make(dtype, shape), blocks = Make(dtype, block_shape.Prepend(groups));
      const auto values = RandomValues(whole.count(), 3);
      std::vector<double> expected(static_cast<size_t>(blocks.count()), kUntouched);
      Set(blocks, expected);
      for (int64_t g = 0; g < groups; ++g) {
        const ChannelSlice share = ShareOf(channels, groups, g);
        for (int64_t i = 0; i < places * share.count; ++i) {
          const int64_t place = i / share.count, channel = share.begin + i % share.count;
          expected[static_cast<size_t>(g * capacity + i)] =
              values[static_cast<size_t>(place * channels + channel)];
        }
      }
      Set(whole, values);
      backend_->SplitChannels(*stream_, whole, blocks);
      EXPECT_EQ(Values(blocks), expected) << shape.ToString() << " over " << groups;
      const Tensor joined = Make(dtype, shape);
      backend_->ConcatenateChannels(*stream_, blocks, joined);
      EXPECT_EQ(Values(joined), values) << shape.ToString() << " over " << groups;
    }
  }
}

TEST_F(MemoryTest, RefusesBlocksThatDoNotFit) {
  const Tensor whole = Make(DType::kFloat32, Shape{3, 10});
  for (const Shape& shape : {Shape{4, 3, 2}, Shape{4, 2, 3}, Shape{3, 3, 3}}) {
    const Tensor blocks = Make(DType::kFloat32, shape);
    EXPECT_THROW(backend_->SplitChannels(*stream_, whole, blocks), Error) << shape.ToString();
    EXPECT_THROW(backend_->ConcatenateChannels(*stream_, blocks, whole), Error) << shape.ToString();
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
