#include "dataloader/archives/members.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/names.h"

namespace convoy {

size_t MemberTable::FolderIndex(int64_t member) const {
  const auto next =
      std::upper_bound(folder_begin.begin(), folder_begin.end(), static_cast<uint32_t>(member));
  return static_cast<size_t>(next - folder_begin.begin()) - 1;
}

bool MemberTable::IsConsistent() const {
  const size_t count = offset.size();
  return folder_begin.size() == folders.size() + 1 && folder_begin.front() == 0 &&
         folder_begin.back() == count && std::is_sorted(folder_begin.begin(), folder_begin.end()) &&
         bytes.size() == count && archive.size() == count && name_begin.size() == count + 1 &&
         name_begin.front() == 0 && name_begin.back() == names.size() &&
         std::is_sorted(name_begin.begin(), name_begin.end());
}

uint32_t MemberTableBuilder::Folder(const std::string& path) {
  const auto [entry, is_new] =
      folder_numbers_.emplace(path, static_cast<uint32_t>(folders_.size()));
  if (is_new) folders_.push_back(path);
  return entry->second;
}

void MemberTableBuilder::Add(uint32_t folder, std::string_view name, int64_t archive,
                             int64_t offset, int64_t bytes) {
  const auto refuse = [&](const std::string& problem) {
    throw Error(ExitCode::kData,
                fmt::format("{}/{}: {}", Printable(folders_[folder]), Printable(name), problem));
  };
  if (bytes > kLargestMember) {
    refuse(fmt::format("{} bytes, an image of at most {} expected", bytes, kLargestMember));
  }
  if (name.size() > std::numeric_limits<uint16_t>::max() ||
      names_.size() + name.size() > std::numeric_limits<uint32_t>::max() ||
      archive > std::numeric_limits<uint16_t>::max()) {
    refuse("too many images, archives or too long names for one data set");
  }
  rows_.push_back({.offset = offset,
                   .bytes = static_cast<uint32_t>(bytes),
                   .folder = folder,
                   .name_begin = static_cast<uint32_t>(names_.size()),
                   .name_bytes = static_cast<uint16_t>(name.size()),
                   .archive = static_cast<uint16_t>(archive)});
  names_ += name;
}

void MemberTableBuilder::RenameFolders(
    const std::function<std::string(const std::string&)>& rename) {
  folder_numbers_.clear();
  for (size_t i = 0; i < folders_.size(); ++i) {
    folders_[i] = rename(folders_[i]);
    CONVOY_CHECK(folder_numbers_.emplace(folders_[i], static_cast<uint32_t>(i)).second);
  }
}

MemberTable MemberTableBuilder::Finish(const std::vector<std::string>& archive_names) {
  std::vector<uint32_t> folder_order(folders_.size());
  std::iota(folder_order.begin(), folder_order.end(), 0u);
  // Compares with the slash, because "a-b/x" comes before "a/x" in byte order.
  std::sort(folder_order.begin(), folder_order.end(),
            [this](uint32_t a, uint32_t b) { return folders_[a] + "/" < folders_[b] + "/"; });
  std::vector<uint32_t> rank(folders_.size());
  for (size_t i = 0; i < folder_order.size(); ++i) rank[folder_order[i]] = static_cast<uint32_t>(i);

  std::vector<uint32_t> order(rows_.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto key = [&](uint32_t row) {
    return std::tuple(rank[rows_[row].folder], NameOf(rows_[row]), rows_[row].archive);
  };
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return key(a) < key(b); });

  MemberTable table;
  for (const uint32_t folder : folder_order) table.folders.push_back(folders_[folder]);
  table.folder_begin.assign(folders_.size() + 1, 0);
  table.offset.reserve(order.size());
  table.bytes.reserve(order.size());
  table.archive.reserve(order.size());
  table.name_begin.reserve(order.size() + 1);
  table.names.reserve(names_.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const Row& row = rows_[order[i]];
    if (i > 0 && key(order[i - 1]) == key(order[i])) {
      const std::string where =
          row.archive < archive_names.size() ? archive_names[row.archive] + ": " : std::string();
      throw Error(ExitCode::kData,
                  fmt::format("{}{}/{} is there twice, at bytes {} and {}", where,
                              Printable(folders_[row.folder]), Printable(NameOf(row)),
                              rows_[order[i - 1]].offset, row.offset),
                  "pack the archive again without the older copy");
    }
    ++table.folder_begin[rank[row.folder] + 1];
    table.offset.push_back(row.offset);
    table.bytes.push_back(row.bytes);
    table.archive.push_back(row.archive);
    table.name_begin.push_back(static_cast<uint32_t>(table.names.size()));
    table.names += NameOf(row);
  }
  table.name_begin.push_back(static_cast<uint32_t>(table.names.size()));
  std::partial_sum(table.folder_begin.begin(), table.folder_begin.end(),
                   table.folder_begin.begin());
  *this = MemberTableBuilder();
  return table;
}

}  // namespace convoy
