// dataloader/tar_writer.h - headers of tar members, and how much space members take.
#pragma once

#include <cstdint>
#include <string>

namespace convoy {

// The header of a regular file: one block, or more where the name does not fit one (GNU).
// Sizes from 8 GiB on are written in base 256.
std::string TarHeader(const std::string& name, int64_t bytes);

// Zeros that fill the last block of `bytes` bytes of content.
std::string TarPadding(int64_t bytes);

// What ends an archive.
std::string TarEnd();

}  // namespace convoy
