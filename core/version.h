// core/version.h - the version that checkpoints and --version name.
#pragma once

namespace convoy {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace convoy
