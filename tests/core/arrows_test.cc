// Reads every #include of the tree and holds it against the arrows of the design.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace convoy {
namespace {

namespace fs = std::filesystem;

using Folders = std::set<std::string>;

// Who may include whom, besides itself.
const std::map<std::string, Folders>& Allowed() {
  static const std::map<std::string, Folders> allowed = {
      {"core", {}},
      {"layers", {"core"}},
      {"comm", {"core"}},
      {"dataloader", {"core"}},
      {"trainer", {"core", "layers", "comm", "dataloader"}},
      {"launch", {"core", "layers", "comm", "dataloader", "trainer"}},
      {"bench", {"core", "layers", "comm", "dataloader", "trainer"}},
      {"tests", {"core", "layers", "comm", "dataloader", "trainer", "launch"}}};
  return allowed;
}

// What launch may include of the other folders: their public headers. core is public throughout.
const std::set<std::string>& PublicHeaders() {
  static const std::set<std::string> headers = {"layers/layers.h",
                                                "layers/spec.h",
                                                "layers/analysis.h",
                                                "layers/models.h",
                                                "dataloader/dataloader.h",
                                                "comm/comm.h",
                                                "comm/nccl.h",
                                                "dataloader/measure.h",
                                                "dataloader/image_headers.h",
                                                "dataloader/packing.h",
                                                "dataloader/image_headers.h",
                                                "dataloader/published.h",
                                                "trainer/trainer.h",
                                                "trainer/run_config.h",
                                                "trainer/plan/plan.h",
                                                "trainer/schedule.h",
                                                "trainer/step_bench.h",
                                                "trainer/session.h",
                                                "trainer/agreement.h",
                                                "trainer/compute_resources.h",
                                                "trainer/progress.h",
                                                "trainer/replica_loader.h"};
  return headers;
}

const std::set<std::string>& VendorHeaders() {
  static const std::set<std::string> headers = {"mpi.h",
                                                "nccl.h",
                                                "cudnn.h",
                                                "cudnn_frontend.h",
                                                "dnnl.hpp",
                                                "dnnl.h",
                                                "cublasLt.h",
                                                "cuda_runtime.h",
                                                "turbojpeg.h",
                                                "jpeglib.h",
                                                "png.h",
                                                "zlib.h",
                                                "matio.h",
                                                "xxhash.h",
                                                "liburing.h",
                                                "openssl/evp.h",
                                                "nlohmann/json.hpp",
                                                "spdlog/spdlog.h",
                                                "boost/program_options.hpp"};
  return headers;
}

struct Include {
  std::string file;  // "trainer/plan/plan.cc"
  int line;
  std::string header;  // as written between the quotes or angle brackets
  bool quoted;
};

bool IsSource(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".h" || extension == ".cc" || extension == ".cu" || extension == ".cuh";
}

// The includes of `text`, a source file called `file`.
std::vector<Include> IncludesOf(const std::string& file, std::istream& text) {
  static const std::regex pattern(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::vector<Include> includes;
  std::string line;
  for (int number = 1; std::getline(text, line); ++number) {
    std::smatch match;
    if (std::regex_search(line, match, pattern)) {
      includes.push_back({file, number, match[2], match[1] == "\""});
    }
  }
  return includes;
}

std::vector<Include> AllIncludes() {
  std::vector<Include> includes;
  const fs::path root = CONVOY_SOURCE_DIR;
  for (const auto& [folder, allowed] : Allowed()) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!IsSource(entry.path())) continue;
      std::ifstream text(entry.path());
      const auto found = IncludesOf(fs::relative(entry.path(), root).string(), text);
      includes.insert(includes.end(), found.begin(), found.end());
    }
  }
  return includes;
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.find('/')); }

// What is wrong with an include; empty when nothing is.
std::string Complaint(const Include& include) {
  const std::string from = FolderOf(include.file), to = FolderOf(include.header);
  const bool is_header = include.file.ends_with(".h") || include.file.ends_with(".cuh");
  if (is_header && VendorHeaders().contains(include.header)) return "vendor header in a header";
  if (!include.quoted) return {};
  if (!Allowed().contains(to)) return "quoted include from outside the tree";
  if (from == to) return {};
  if (!Allowed().at(from).contains(to)) return "arrow the wrong way: " + from + " -> " + to;
  if (from == "launch" && to != "core" && !PublicHeaders().contains(include.header)) {
    return "launch includes a header that is not public";
  }
  return {};
}

TEST(Arrows, EveryIncludeFollowsThem) {
  const std::vector<Include> includes = AllIncludes();
  ASSERT_GT(includes.size(), 100u) << "the sources were not found";
  for (const Include& include : includes) {
    EXPECT_EQ(Complaint(include), "")
        << include.file << ":" << include.line << " includes " << include.header;
  }
}

TEST(Arrows, AWrongIncludeIsFound) {
  const auto complaint = [](const std::string& file, const std::string& line) {
    std::istringstream text(line);
    return Complaint(IncludesOf(file, text).at(0));
  };
  EXPECT_NE(complaint("layers/x.cc", "#include \"comm/comm.h\""), "");
  EXPECT_NE(complaint("core/x.cc", "  #  include \"layers/layers.h\""), "");
  EXPECT_NE(complaint("comm/x.h", "#include <mpi.h>"), "");
  EXPECT_NE(complaint("trainer/x.cc", "#include \"launch/options.h\""), "");
  EXPECT_NE(complaint("launch/x.cc", "#include \"layers/cpu/operation.h\""), "");
  EXPECT_EQ(complaint("comm/x.cc", "#include <mpi.h>"), "");
  EXPECT_EQ(complaint("launch/x.cc", "#include \"layers/layers.h\""), "");
}

}  // namespace
}  // namespace convoy
