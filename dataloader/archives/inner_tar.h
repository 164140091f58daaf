// dataloader/archives/inner_tar.h - tars that lie in tars, recognised by their content.
#pragma once

#include <string_view>

#include "dataloader/archives/bytes.h"
#include "dataloader/archives/tar.h"

namespace convoy {

// Returns whether `member` of `archive` is itself a tar.
bool IsTar(const ByteSource& archive, const TarMember& member);

// Returns whether a tar holds tars: whether the first of its files that is an image, a label or a
// tar is a tar. Reads only the headers up to that one. False for a tar that is damaged there.
bool IsTarOfTars(const ByteSource& archive);

// Returns whether a member holds the number of an image's class by its name: "0001.cls".
bool IsLabelName(std::string_view name);
// Returns whether a name is that of a compressed archive, which cannot be read in place: .gz, .tgz,
// .zip, ...
bool IsPackedName(std::string_view name);

}  // namespace convoy
