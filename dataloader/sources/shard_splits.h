// dataloader/sources/shard_splits.h - the splits of tars that lie in one folder.
//
// Forms of a data set are told apart by their structure. This is the exception: shards of several
// splits in one folder look alike inside, and only their names tell
// (imagenet1k-train-0000.tar beside imagenet1k-validation-0000.tar).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace convoy {

// "train", "val" or "test" if `word` is one of their usual names in any case (training, valid,
// validation, testing); else empty.
std::string SplitOfWord(std::string_view word);

// The split in the name of a shard: a word for it, which only numbers follow
// ("wds-train-000001-of-000100.tar"). Empty if there is none.
std::string SplitOfShard(std::string_view path);

// The splits of `paths`, in byte order, with "" for names without one. An empty list unless splits
// are meant: all names have one, or one of them is surely of validation or test images. (A class of
// class tars may be called "train".)
std::vector<std::string> SplitsOfShards(const std::vector<std::string>& paths);

// What is missing among shards that are numbered one after another, or say how many they are:
// "x-000002.tar" or "x-00007-of-00100.tar". Empty if nothing is, or if the names are numbered in no
// such way (as wnids).
std::string FirstMissingShard(const std::vector<std::string>& paths);

}  // namespace convoy
