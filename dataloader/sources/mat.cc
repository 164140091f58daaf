// meta.mat through libmatio, which reads files by name alone: the bytes are given to it as a file
// in memory.
#include <matio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/devkit.h"
#include "dataloader/sources/mat_synsets.h"

namespace convoy {
namespace {

class MemoryFile {
 public:
  explicit MemoryFile(const std::vector<uint8_t>& bytes)
      : descriptor_(memfd_create("meta.mat", MFD_CLOEXEC)) {
    size_t done = 0;
    while (descriptor_ >= 0 && done < bytes.size()) {
      const ssize_t count = write(descriptor_, bytes.data() + done, bytes.size() - done);
      if (count <= 0) break;
      done += static_cast<size_t>(count);
    }
    if (descriptor_ < 0 || done < bytes.size()) {
      throw Error(ExitCode::kDisk, "cannot hold meta.mat in memory");
    }
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return fmt::format("/proc/self/fd/{}", descriptor_); }

 private:
  int descriptor_;
};

std::optional<std::string> TextOf(const matvar_t* field) {
  if (field == nullptr || field->class_type != MAT_C_CHAR || field->data == nullptr) {
    return std::nullopt;
  }
  std::string text;
  if (field->data_size == 1) {
    text.assign(static_cast<const char*>(field->data), field->nbytes);
  } else if (field->data_size == 2) {
    const auto* units = static_cast<const uint16_t*>(field->data);
    for (size_t i = 0; i < field->nbytes / 2; ++i) text += static_cast<char>(units[i]);
  }
  return text;
}

std::optional<int64_t> NumberOf(const matvar_t* field) {
  if (field == nullptr || field->data == nullptr || field->nbytes == 0 ||
      field->nbytes < static_cast<size_t>(field->data_size)) {
    return std::nullopt;
  }
  const void* data = field->data;
  switch (field->class_type) {
    case MAT_C_DOUBLE: {
      const double value = *static_cast<const double*>(data);
      if (!(std::abs(value) < 1e15)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case MAT_C_INT8:
      return *static_cast<const int8_t*>(data);
    case MAT_C_UINT8:
      return *static_cast<const uint8_t*>(data);
    case MAT_C_INT16:
      return *static_cast<const int16_t*>(data);
    case MAT_C_UINT16:
      return *static_cast<const uint16_t*>(data);
    case MAT_C_INT32:
      return *static_cast<const int32_t*>(data);
    case MAT_C_UINT32:
      return *static_cast<const uint32_t*>(data);
    default:
      return std::nullopt;
  }
}

// "ILSVRC2012_ID", "ILSVRC2010_ID".
std::string IdFieldOf(const matvar_t* synsets) {
  char* const* names = Mat_VarGetStructFieldnames(synsets);
  const unsigned count = Mat_VarGetNumberOfFields(const_cast<matvar_t*>(synsets));
  for (unsigned i = 0; names != nullptr && i < count; ++i) {
    const std::string_view name = names[i];
    if (name.starts_with("ILSVRC") && name.ends_with("_ID")) return names[i];
  }
  return {};
}

}  // namespace

std::vector<Synset> ReadSynsets(const std::vector<uint8_t>& mat, const std::string& name) {
  const auto fail = [&name](const std::string& problem) {
    throw Error(ExitCode::kData, fmt::format("{}: {}", name, problem),
                "give --devkit the devkit as it was downloaded");
  };
  const MemoryFile file(ExtractSynsets(mat, name));
  const std::unique_ptr<mat_t, int (*)(mat_t*)> reader(
      Mat_Open(file.path().c_str(), MAT_ACC_RDONLY), Mat_Close);
  if (!reader) fail("not a MAT file");
  const std::unique_ptr<matvar_t, void (*)(matvar_t*)> synsets(Mat_VarRead(reader.get(), "synsets"),
                                                               Mat_VarFree);
  if (!synsets || synsets->class_type != MAT_C_STRUCT) fail("holds no struct named synsets");
  const std::string id_field = IdFieldOf(synsets.get());
  if (id_field.empty()) fail("synsets has no field ILSVRC*_ID");

  size_t count = 1;
  for (int i = 0; i < synsets->rank; ++i) count *= synsets->dims[i];
  std::vector<Synset> classes;
  for (size_t i = 0; i < count; ++i) {
    const auto field = [&](const char* field_name) {
      return Mat_VarGetStructFieldByName(synsets.get(), field_name, i);
    };
    const std::optional<int64_t> id = NumberOf(field(id_field.c_str()));
    const std::optional<std::string> wnid = TextOf(field("WNID"));
    const std::optional<int64_t> children = NumberOf(field("num_children"));
    if (!id || !wnid || !children) {
      fail(fmt::format("synset {}: {}, WNID or num_children is missing", i + 1,
                       Printable(id_field)));
    }
    if (*children == 0) classes.push_back({*id, std::string(Trim(*wnid))});
  }
  if (classes.empty()) fail("no synset without children");
  return classes;
}

}  // namespace convoy
