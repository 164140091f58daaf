// tests/shared_folder.h - where files that several projects read lie: data/ and reference/.
#pragma once

#include <cstdlib>
#include <string>

namespace convoy {

// CONVOY_SHARED, or the folder `shared` beside the checkout.
inline std::string SharedFolder() {
  const char* const given = std::getenv("CONVOY_SHARED");
  return given != nullptr ? given : CONVOY_SHARED_DIR;
}

}  // namespace convoy
