// core/host/json_line.h - JSON as one line of text.
#pragma once

#include <string>

namespace convoy {

// Returns the text of a nlohmann::json or ordered_json, without a newline. Names may be of any
// bytes: what is no UTF-8 is replaced. (A template, so that this needs no JSON header.)
template <typename Json>
std::string JsonLine(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace convoy
