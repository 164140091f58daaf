// dataloader/sources/devkit.h - the classes of the ILSVRC validation images.
//
// The devkit numbers its classes in an order of its own (ILSVRC2012_ID); data/meta.mat says which
// wnid each number is. Convoy's labels are the places of the wnids in byte order, as everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace convoy {

struct ValidationTruth {
  std::vector<std::string> wnids;  // in label order
  std::vector<int32_t> labels;     // of image i + 1: ILSVRC2012_val_00000001.JPEG is at 0
};

// Reads a devkit. `path` is its folder; its .tar or .tar.gz; its *_validation_ground_truth.txt with
// meta.mat beside it; or a text with one wnid per line. meta.txt, with lines "ID WNID WORDS", may
// stand in place of meta.mat. Throws (kData) with the first line that is wrong.
ValidationTruth ReadDevkit(const std::string& path);

// A class of the devkit.
struct Synset {
  int64_t id = 0;
  std::string wnid;
  std::string words;  // "kit fox, Vulpes macrotis", in UTF-8; empty if the file has none
};
// Returns the classes of a meta.mat, given as its bytes, that have no children. `name` is for
// messages. Throws (kData): nothing that the file claims is believed before it is checked.
std::vector<Synset> ReadSynsets(const std::vector<uint8_t>& mat, const std::string& name);

}  // namespace convoy
