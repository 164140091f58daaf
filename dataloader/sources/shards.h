// dataloader/sources/shards.h - the small files beside packed shards.
#pragma once

#include <string>

#include "dataloader/archives/members.h"

namespace convoy {

// The names of the classes in the order of their numbers, one a line.
inline constexpr const char* kShardClassesFile = "classes.txt";
// What was packed, and how: "name = value" a line.
inline constexpr const char* kShardSettingsFile = "shards.cfg";

// "a.b.png" -> "a_b": the name of an image in a shard, whose key ends at the first point.
std::string ShardStem(const std::string& name);
// "a.png" -> "a-png": its name if another image of the class has the same ShardStem(). "-" stands
// just before "." in byte order, so the images stay in the order of their names.
std::string ShardStemWithExtension(const std::string& name);
// The ShardStem() that an image had before it was packed: "a-png.png", "a.png.JPEG" -> "a".
std::string UnpackedShardStem(const std::string& name);

// Names the classes of shards, whose folders are their numbers, as classes.txt in `folder` says;
// they stay numbers where there is no such file. Throws (kData) where it has too few names, and
// where shards are missing by what shards.cfg says.
void ApplyShardNotes(const std::string& folder, MemberTable& members);

}  // namespace convoy
