// dataloader/sources/shard_splits.h - the splits of tars that lie in one folder.
//
// Forms of a data set are recognised by their structure. This is the exception: shards of several
// splits in one folder look alike inside, and only their names differ (imagenet1k-train-0000.tar
// beside imagenet1k-validation-0000.tar).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace convoy {

// Returns "train", "val" or "test" if `word` is one of their usual names in any case (training,
// valid, validation, testing); else empty.
std::string SplitOfWord(std::string_view word);

// Returns the split in the name of a shard: a word for it that only numbers follow
// ("wds-train-000001-of-000100.tar"). Empty if there is none.
std::string SplitOfShard(std::string_view path);

// Returns the splits of `paths`, in byte order, with "" for names without one. The list is empty
// unless splits are meant: all names have one, or one of them is surely of validation or test
// images. (A class of class tars may be called "train".)
std::vector<std::string> SplitsOfShards(const std::vector<std::string>& paths);

// Says what is missing among shards that are numbered one after another, or whose names say how
// many there are: "x-000002.tar" or "x-00007-of-00100.tar". Empty if nothing is missing, or if the
// names are not numbered in such a way (as wnids).
std::string FirstMissingShard(const std::vector<std::string>& paths);

}  // namespace convoy
