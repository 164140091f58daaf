// dataloader/sources/shards.h - the small files beside packed shards.
#pragma once

#include <string>

#include "dataloader/archives/members.h"

namespace convoy {

// Holds the names of the classes in the order of their numbers, one per line.
inline constexpr const char* kShardClassesFile = "classes.txt";
// Holds what was packed and how: "name = value" on each line.
inline constexpr const char* kShardSettingsFile = "shards.cfg";

// Returns the name of an image in a shard, whose key ends at the first point: "a_b" for "a.b.png".
std::string ShardStem(const std::string& name);
// Returns the name of an image if another image of its class has the same ShardStem(): "a-png" for
// "a.png". "-" comes just before "." in byte order, so the images stay in the order of their names.
std::string ShardStemWithExtension(const std::string& name);
// Returns the ShardStem() that an image had before it was packed: "a" for "a-png.png" and
// "a.png.JPEG".
std::string UnpackedShardStem(const std::string& name);

// Names the classes of shards, whose folders are their numbers, as classes.txt in `folder` says.
// They stay numbers if there is no such file. Throws (kData) if it has too few names, and if shards
// are missing according to shards.cfg.
void ApplyShardNotes(const std::string& folder, MemberTable& members);

}  // namespace convoy
