#include <fmt/format.h>

#include <filesystem>

#include <nlohmann/json.hpp>

#include "core/host/files.h"
#include "core/host/json_line.h"
#include "trainer/trainer.h"

namespace convoy {

void WriteExitRecord(const std::string& output_dir, int rank, int64_t step, ExitCode code,
                     const std::string& reason) {
  // A rank may end before the folder was made, or because it cannot be written.
  std::error_code unknown;
  if (!std::filesystem::is_directory(output_dir, unknown)) return;
  const nlohmann::ordered_json record = {
      {"rank", rank}, {"code", static_cast<int>(code)}, {"reason", reason}, {"step", step}};
  try {
    WriteText(fmt::format("{}/exit.{}.json", output_dir, rank), JsonLine(record) + "\n");
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): nobody is left to be told
  }
}

bool IsExitRecord(const std::string& name) {
  return name.starts_with("exit.") && name.ends_with(".json");
}

void RemoveExitRecords(const std::string& output_dir) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(output_dir, ignored)) {
    if (IsExitRecord(entry.path().filename().string())) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

}  // namespace convoy
