// tests/dataloader/support.h - folders, images and archives that tests make for themselves.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/host/log.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy::testing {

// A folder that is removed with all it holds.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path() const { return path_.string(); }
  // The path of something in it; folders above are created.
  std::string operator/(const std::string& name) const;
  // Writes a file and returns its path.
  std::string Write(const std::string& name, std::string_view contents) const;

 private:
  std::filesystem::path path_;
};

// Of the project's shared data. Tests that need one that is absent are skipped.
std::string SharedPath(const std::string& name);
#define CONVOY_NEED_SHARED(name)                                     \
  if (!std::filesystem::exists(convoy::testing::SharedPath(name))) { \
    GTEST_SKIP() << "needs " << convoy::testing::SharedPath(name);   \
  }

// Writes nothing.
Log& QuietLog();

// Runs `action` and returns the Error that it throws; a failure and kDone when it throws none.
Error ErrorOf(const std::function<void()>& action);
// That the Error has the exit code and its text holds all the words.
void ExpectError(const Error& error, ExitCode exit_code, const std::vector<std::string>& words);

// A folder for the data sets of a test, which are opened by their names in it.
class DatasetFolderTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> Open(const std::string& location) {
    return OpenDataset(folder_ / location, {}, QuietLog());
  }
  Error Refused(const std::string& location) {
    return ErrorOf([&] { Open(location); });
  }
  TempFolder folder_;
};

// Smooth colours with some noise, different for each seed: [height, width, channels].
std::vector<uint8_t> TestPixels(int width, int height, int channels, uint32_t seed);

struct JpegForm {
  int quality = 92;
  int h = 1, v = 1;  // sampling factors of luma
  bool progressive = false;
  int restart_rows = 0;
};
std::string MakeJpeg(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                     const JpegForm& form = {});
// A JPEG of TestPixels.
std::string MakeJpeg(int width, int height, uint32_t seed, const JpegForm& form = {});

struct PngForm {
  int bits = 8;  // 8 or 16 a channel
  bool interlaced = false;
};
// 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha; 16-bit pixels are given big-endian.
std::string MakePng(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                    const PngForm& form = {});

// Full decode by libjpeg's plain calls, nothing of Convoy's: [height, width, 3].
struct DecodedJpeg {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;
};
DecodedJpeg PlainDecode(std::string_view jpeg);
// Full decode by libpng's simplified calls: [height, width, 3].
DecodedJpeg PlainPngDecode(const std::string& path);

// An archive, member by member. Independent of Convoy's own writer.
class TarMaker {
 public:
  TarMaker& Add(const std::string& name, std::string_view contents, char type = '0');
  // A header alone that claims `bytes` bytes; checksum right.
  TarMaker& AddHeader(const std::string& name, const std::string& size_field, char type = '0');
  TarMaker& AddRaw(std::string_view bytes);
  // With the end mark, filled up to a record of 10240 bytes as tar does.
  std::string Finish() const;
  std::string Unfinished() const { return bytes_; }
  static std::string Header(const std::string& name, const std::string& size_field, char type);

 private:
  std::string bytes_;
};

std::string Gzip(std::string_view bytes);
std::string ReadFile(const std::string& path);

// A loader over a data set that the test owns, and keeps until the loader is gone.
std::unique_ptr<Loader> MakeLoader(const Dataset& dataset, const LoaderOptions& options);

// Everything of a batch that the stream is made of, as one hash.
uint64_t HashOf(const Batch& batch);
// Hashes of the next `count` batches.
std::vector<uint64_t> HashesOf(Loader& loader, int64_t count);

}  // namespace convoy::testing
