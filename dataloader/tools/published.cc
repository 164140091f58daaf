#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/host/files.h"
#include "dataloader/archives/names.h"
#include "dataloader/fingerprint.h"

namespace convoy {
namespace {

// Sizes and sums as torchvision and TensorFlow Datasets check them.
constexpr PublishedArchive kPublished[] = {
    {"ILSVRC2012_img_train.tar", 147'897'477'120, "1d675b47d978889d74fa0da5fadfb00e"},
    {"ILSVRC2012_img_val.tar", 6'744'924'160, "29b22e2961454d5413ddabcf34fc5622"},
};

}  // namespace

std::optional<PublishedArchive> PublishedAs(const std::string& path) {
  for (const PublishedArchive& archive : kPublished) {
    if (BaseOf(path) == archive.name) return archive;
  }
  return std::nullopt;
}

std::string Md5OfFile(const std::string& path, const std::function<void(int64_t)>& progress) {
  const File file = File::OpenForReading(path, ExitCode::kData);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  const auto check = [](int code) {
    if (code == 1) return;
    throw Error(ExitCode::kUsage, "this machine's OpenSSL does not compute MD5",
                "compare with md5sum instead");
  };
  check(context != nullptr ? EVP_DigestInit_ex(context.get(), EVP_md5(), nullptr) : 0);
  constexpr int64_t kPiece = 8 << 20;
  std::vector<uint8_t> piece(
      static_cast<size_t>(std::min(kPiece, std::max<int64_t>(file.size(), 1))));
  for (int64_t at = 0; at < file.size(); at += kPiece) {
    const int64_t bytes = std::min(kPiece, file.size() - at);
    file.ReadAt(at, piece.data(), bytes);
    check(EVP_DigestUpdate(context.get(), piece.data(), static_cast<size_t>(bytes)));
    if (progress) progress(at + bytes);
  }
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned count = 0;
  check(EVP_DigestFinal_ex(context.get(), digest.data(), &count));
  std::string text;
  for (unsigned i = 0; i < count; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace convoy
