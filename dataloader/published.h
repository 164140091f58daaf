// dataloader/published.h - the official archives of ILSVRC-2012, as they were published.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace convoy {

struct PublishedArchive {
  const char* name;
  int64_t bytes;
  const char* md5;  // 32 hexadecimal digits
};

// The archive of that file name.
std::optional<PublishedArchive> PublishedAs(const std::string& path);

// MD5 of a whole file, 32 hexadecimal digits. `progress`, which may be empty, is told of bytes
// done. Throws (kData, kDisk).
std::string Md5OfFile(const std::string& path, const std::function<void(int64_t)>& progress);

}  // namespace convoy
