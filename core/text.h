// core/text.h - small pieces of text: nearest names, sizes and durations for people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace convoy {

// Returns the candidate with the smallest edit distance to `name`, or nothing when none is near
// (more than a third of the longer name differs).
std::optional<std::string> NearestName(std::string_view name,
                                       const std::vector<std::string>& candidates);

// Returns "1.24 GB" (1 GB = 1e9 bytes).
std::string FormatBytes(double bytes);
// Returns "2 h 05 min", "3 min 20 s", "4.2 s".
std::string FormatDuration(double seconds);
// Returns "1,281,167".
std::string FormatCount(int64_t count);
// Returns "1 rank", "1,200 ranks".
std::string FormatCount(int64_t count, std::string_view noun);

std::vector<std::string> Split(std::string_view text, char separator);
std::string_view Trim(std::string_view text);
// `text` after the byte order mark of UTF-8, if it begins with one.
std::string_view WithoutByteOrderMark(std::string_view text);

// Returns the whole of `text` as a finite number, or nothing.
std::optional<int64_t> ParseInteger(std::string_view text);
std::optional<double> ParseNumber(std::string_view text);

}  // namespace convoy
