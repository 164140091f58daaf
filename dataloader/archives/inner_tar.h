// dataloader/archives/inner_tar.h - tars that lie in tars, told by their content.
#pragma once

#include <string_view>

#include "dataloader/archives/bytes.h"
#include "dataloader/archives/tar.h"

namespace convoy {

// Whether `member` of `archive` is itself a tar.
bool IsTar(const ByteSource& archive, const TarMember& member);

// Whether a tar holds tars: the first of its files that is an image, a label or a tar is a tar.
// Reads only the headers up to that one. False for a tar that is damaged there.
bool IsTarOfTars(const ByteSource& archive);

// Named as the number of an image's class: "0001.cls".
bool IsLabelName(std::string_view name);
// Named as a compressed archive, which cannot be read in place: .gz, .tgz, .zip, ...
bool IsPackedName(std::string_view name);

}  // namespace convoy
