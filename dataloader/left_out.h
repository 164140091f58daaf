// dataloader/left_out.h - the files of a data set that are not read, counted by kind.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace convoy {

// A kind is the extension of a name (".webp"), or a word if there is no extension ("pipe").
class LeftOut {
 public:
  struct Kind {
    int64_t count = 0;
    std::string first;  // the first of the names, in byte order
  };

  // Counts a file of the kind that its name says.
  void AddFile(std::string_view name);
  // Counts `count` files of a kind. After a certain number of kinds, further ones are counted as
  // "other files".
  void Add(const std::string& kind, std::string_view first_name, int64_t count = 1);
  void Add(const LeftOut& others);

  int64_t count() const;
  bool empty() const { return kinds_.empty(); }
  const std::map<std::string, Kind>& kinds() const { return kinds_; }
  // Returns "12 .webp, 3 .bmp, 1 pipe (cat/a.jpg)", the largest count first; empty if there is
  // none.
  std::string Listing() const;
  // Returns "left out 15 files that are no JPEG or PNG: 12 .webp, 3 .bmp"; empty if there is none.
  std::string Sentence() const;

 private:
  std::map<std::string, Kind> kinds_;
};

}  // namespace convoy
