// dataloader/sources/mat_synsets.h - the part of a meta.mat that libmatio is given: libmatio
// believes the sizes that a file states, and a damaged one makes it allocate or read without
// bounds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace convoy {

// The variable synsets of `mat` (MAT file of version 5, little-endian) as a file of its own, not
// compressed. Every element in it lies inside of the one that holds it; it is an array of structs
// whose fields are texts and real numbers, all as large as their dimensions say. Throws (kData)
// where that is not so; `name` is for messages.
std::vector<uint8_t> ExtractSynsets(const std::vector<uint8_t>& mat, const std::string& name);

}  // namespace convoy
