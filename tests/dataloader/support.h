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
  // Returns the path of something in it; creates the folders above.
  std::string operator/(const std::string& name) const;
  // Writes a file and returns its path.
  std::string Write(const std::string& name, std::string_view contents) const;

 private:
  std::filesystem::path path_;
};

// Returns the path of a file of the project's shared data. Tests that need one that is absent are
// skipped.
std::string SharedPath(const std::string& name);
#define CONVOY_NEED_SHARED(name)                                     \
  if (!std::filesystem::exists(convoy::testing::SharedPath(name))) { \
    GTEST_SKIP() << "needs " << convoy::testing::SharedPath(name);   \
  }

// Returns a log that writes nothing.
Log& QuietLog();

// Runs `action` and returns the Error that it throws. If it throws none, the test fails and the
// Error has kDone.
Error ErrorOf(const std::function<void()>& action);
// Expects that the Error has the exit code and its text holds all the words.
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

// Makes smooth colours with some noise, different for each seed: [height, width, channels].
std::vector<uint8_t> TestPixels(int width, int height, int channels, uint32_t seed);

struct JpegForm {
  int quality = 92;
  int h = 1, v = 1;  // sampling factors of luma
  bool progressive = false;
  int restart_rows = 0;
};
std::string MakeJpeg(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                     const JpegForm& form = {});
// Makes a JPEG of TestPixels.
std::string MakeJpeg(int width, int height, uint32_t seed, const JpegForm& form = {});

struct PngForm {
  int bits = 8;  // 8 or 16 a channel
  bool interlaced = false;
};
// 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha; 16-bit pixels are given big-endian.
std::string MakePng(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                    const PngForm& form = {});

// Decodes all pixels by libjpeg's plain calls, without code of Convoy's: [height, width, 3].
struct DecodedJpeg {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;
};
DecodedJpeg PlainDecode(std::string_view jpeg);
// Decodes all pixels by libpng's simplified calls: [height, width, 3].
DecodedJpeg PlainPngDecode(const std::string& path);

// Makes an archive member by member, without Convoy's own writer.
class TarMaker {
 public:
  TarMaker& Add(const std::string& name, std::string_view contents, char type = '0');
  // Adds only a header that claims `bytes` bytes, with the right checksum.
  TarMaker& AddHeader(const std::string& name, const std::string& size_field, char type = '0');
  TarMaker& AddRaw(std::string_view bytes);
  // Returns the archive with its end mark, filled up to a record of 10240 bytes as tar does.
  std::string Finish() const;
  std::string Unfinished() const { return bytes_; }
  static std::string Header(const std::string& name, const std::string& size_field, char type);

 private:
  std::string bytes_;
};

std::string Gzip(std::string_view bytes);
std::string ReadFile(const std::string& path);

// Makes a loader over a data set that the test owns and keeps until the loader is gone.
std::unique_ptr<Loader> MakeLoader(const Dataset& dataset, const LoaderOptions& options);

// Returns one hash of everything in a batch that the stream is made of.
uint64_t HashOf(const Batch& batch);
// Returns the hashes of the next `count` batches.
std::vector<uint64_t> HashesOf(Loader& loader, int64_t count);

}  // namespace convoy::testing
