#include "tests/dataloader/support.h"

// jpeglib.h needs <cstdio>.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
// clang-format on
#include <png.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "core/hash.h"
#include "tests/shared_folder.h"

namespace convoy::testing {

namespace fs = std::filesystem;

TempFolder::TempFolder() {
  static std::atomic<int> counter{0};
  path_ = fs::temp_directory_path() / fmt::format("convoy-test-{}-{}", getpid(), counter++);
  fs::create_directories(path_);
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TempFolder::operator/(const std::string& name) const {
  const fs::path path = path_ / name;
  fs::create_directories(path.parent_path());
  return path.string();
}

std::string TempFolder::Write(const std::string& name, std::string_view contents) const {
  const std::string path = *this / name;
  std::ofstream file(path, std::ios::binary);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  return path;
}

std::string SharedPath(const std::string& name) { return SharedFolder() + "/" + name; }

Log& QuietLog() {
  static Log log(LogLevel::kSilent);
  return log;
}

Error ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return Error(ExitCode::kDone, "no error");
}

void ExpectError(const Error& error, ExitCode exit_code, const std::vector<std::string>& words) {
  EXPECT_EQ(error.exit_code(), exit_code) << error.what();
  for (const std::string& word : words) {
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
        << "\"" << word << "\" is not in: " << error.what();
  }
  EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
}

std::vector<uint8_t> TestPixels(int width, int height, int channels, uint32_t seed) {
  std::vector<uint8_t> pixels;
  uint32_t noise = seed * 2654435761u + 12345;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        noise = noise * 1664525u + 1013904223u;
        const double phase = 0.07 * (c + 1) * x + 0.05 * (3 - c) * y + seed;
        const double value = 128 + 80 * std::sin(phase) + static_cast<double>(noise >> 27);
        pixels.push_back(static_cast<uint8_t>(value));
      }
    }
  }
  return pixels;
}

std::string MakeJpeg(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                     const JpegForm& form) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&jpeg, &memory, &bytes);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.input_components = channels;
  jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, form.quality, TRUE);
  jpeg.comp_info[0].h_samp_factor = form.h;
  jpeg.comp_info[0].v_samp_factor = form.v;
  jpeg.restart_in_rows = form.restart_rows;
  if (form.progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    auto* row = const_cast<JSAMPROW>(pixels.data() + static_cast<size_t>(jpeg.next_scanline) *
                                                         static_cast<size_t>(width * channels));
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string result(reinterpret_cast<const char*>(memory), bytes);
  std::free(memory);
  jpeg_destroy_compress(&jpeg);
  return result;
}

std::string MakeJpeg(int width, int height, uint32_t seed, const JpegForm& form) {
  return MakeJpeg(TestPixels(width, height, 3, seed), width, height, 3, form);
}

std::string MakePng(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                    const PngForm& form) {
  constexpr int kTypes[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                            PNG_COLOR_TYPE_RGB_ALPHA};
  std::string result;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &result,
      [](png_structp p, png_bytep data, size_t bytes) {
        static_cast<std::string*>(png_get_io_ptr(p))
            ->append(reinterpret_cast<const char*>(data), bytes);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
               form.bits, kTypes[channels],
               form.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_bytep> rows;
  for (int y = 0; y < height; ++y) {
    rows.push_back(const_cast<png_bytep>(pixels.data()) +
                   static_cast<ptrdiff_t>(y) * width * channels * form.bits / 8);
  }
  png_set_rows(png, info, rows.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return result;
}

DecodedJpeg PlainDecode(std::string_view bytes) {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  DecodedJpeg decoded{
      static_cast<int>(jpeg.output_width), static_cast<int>(jpeg.output_height), {}};
  const size_t row_bytes = size_t{3} * jpeg.output_width;
  decoded.pixels.resize(row_bytes * jpeg.output_height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = decoded.pixels.data() + row_bytes * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  return decoded;
}

DecodedJpeg PlainPngDecode(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  EXPECT_TRUE(png_image_begin_read_from_file(&image, path.c_str())) << path;
  image.format = PNG_FORMAT_RGB;
  DecodedJpeg decoded{static_cast<int>(image.width), static_cast<int>(image.height), {}};
  decoded.pixels.resize(PNG_IMAGE_SIZE(image));
  EXPECT_TRUE(png_image_finish_read(&image, nullptr, decoded.pixels.data(), 0, nullptr));
  return decoded;
}

std::string TarMaker::Header(const std::string& name, const std::string& size_field, char type) {
  std::string header(512, '\0');
  const auto put = [&header](size_t at, std::string_view text) {
    std::memcpy(header.data() + at, text.data(), text.size());
  };
  put(0, std::string_view(name).substr(0, 100));
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, size_field);
  put(136, "00000000000");
  put(148, "        ");
  header[156] = type;
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum));
  header[154] = '\0';
  return header;
}

TarMaker& TarMaker::AddHeader(const std::string& name, const std::string& size_field, char type) {
  return AddRaw(Header(name, size_field, type));
}

TarMaker& TarMaker::Add(const std::string& name, std::string_view contents, char type) {
  AddHeader(name, fmt::format("{:011o}", contents.size()), type);
  AddRaw(contents);
  return AddRaw(std::string((512 - contents.size() % 512) % 512, '\0'));
}

TarMaker& TarMaker::AddRaw(std::string_view bytes) {
  bytes_ += bytes;
  return *this;
}

std::string TarMaker::Finish() const {
  std::string archive = bytes_ + std::string(1024, '\0');
  return archive + std::string((10240 - archive.size() % 10240) % 10240, '\0');
}

std::string Gzip(std::string_view bytes) {
  z_stream stream{};
  deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string result(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

uint64_t HashOf(const Batch& batch) {
  Hasher hasher;
  hasher.Add(&batch.epoch, sizeof(batch.epoch));
  hasher.Add(&batch.index, sizeof(batch.index));
  hasher.Add(&batch.global_count, sizeof(batch.global_count));
  hasher.Add(&batch.colour_scale, sizeof(batch.colour_scale));
  hasher.Add(batch.pixels.data(), static_cast<size_t>(batch.shape.count()));
  for (const SampleInfo& info : batch.samples) {
    hasher.Add(&info.position, sizeof(info.position));
    hasher.Add(&info.sample, sizeof(info.sample));
    hasher.Add(&info.label, sizeof(info.label));
    hasher.Add(&info.weight, sizeof(info.weight));
    hasher.Add(info.colour_shift, sizeof(info.colour_shift));
    hasher.Add(&info.mirror, sizeof(info.mirror));
  }
  return hasher.Digest();
}

std::unique_ptr<Loader> MakeLoader(const Dataset& dataset, const LoaderOptions& options) {
  // A pointer that owns nothing.
  return Loader::Make({std::shared_ptr<void>(), &dataset}, options, QuietLog());
}

std::vector<uint64_t> HashesOf(Loader& loader, int64_t count) {
  std::vector<uint64_t> hashes;
  for (int64_t i = 0; i < count; ++i) {
    std::unique_ptr<Batch> batch = loader.Next();
    hashes.push_back(HashOf(*batch));
    loader.Recycle(std::move(batch));
  }
  return hashes;
}

}  // namespace convoy::testing
