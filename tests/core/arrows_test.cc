// Reads every #include of the tree and holds it against the arrows of the design: between folders,
// and between the rooms inside them.
//
// A folder's public headers are those that lie in the folder itself; the rest of it lies in rooms.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
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

using Names = std::set<std::string>;

// --- The design ----------------------------------------------------------------------------------

constexpr size_t kMostSourcesOutsideRooms = 12;
constexpr int kMostLinesOfAPublicHeader = 200;

// Which folder may include which, besides itself.
const std::map<std::string, Names>& FoldersSeenBy() {
  static const std::map<std::string, Names> seen = {
      {"core", {}},
      {"layers", {"core"}},
      {"comm", {"core"}},
      {"dataloader", {"core"}},
      {"trainer", {"core", "layers", "comm", "dataloader"}},
      {"launch", {"core", "layers", "comm", "dataloader", "trainer"}},
      {"bench", {"core", "layers", "comm", "dataloader", "trainer"}},
      {"tests", {"core", "layers", "comm", "dataloader", "trainer", "launch"}}};
  return seen;
}

// These see only the public headers of other folders; core is public throughout.
const Names& FoldersHeldToPublicHeaders() {
  static const Names folders = {"trainer", "launch"};
  return folders;
}

// Headers in trainer's rooms that are public too: launch assembles these parts by itself, to show a
// plan or to time one part of a step.
const Names& PublicHeadersInRooms() {
  static const Names headers = {"trainer/plan/plan.h",
                                "trainer/plan/program.h",
                                "trainer/plan/program_costs.h",
                                "trainer/plan/rank_memory.h",
                                "trainer/step/schedule.h",
                                "trainer/ranks/agreement.h",
                                "trainer/ranks/compute_resources.h",
                                "trainer/ranks/replica_loader.h",
                                "trainer/ranks/same_everywhere.h",
                                "trainer/run/progress.h",
                                "trainer/run/run_setup.h"};
  return headers;
}

// Which room may include which other rooms of its folder.
const std::map<std::string, Names>& RoomsSeenBy() {
  static const std::map<std::string, Names> seen = {
      {"core/host", {}},
      {"core/device", {"core/host"}},
      {"core/tensor", {"core/device"}},
      {"core/cuda", {"core/device"}},
      {"comm/host", {}},
      {"comm/mpi", {"comm/host"}},
      {"comm/device", {"comm/host"}},
      {"dataloader/archives", {}},
      {"dataloader/images", {}},
      {"dataloader/sources", {"dataloader/archives", "dataloader/images"}},
      {"dataloader/crops", {"dataloader/images"}},
      {"dataloader/loading", {"dataloader/crops"}},
      {"dataloader/tools",
       {"dataloader/archives", "dataloader/images", "dataloader/sources", "dataloader/crops",
        "dataloader/loading"}},
      {"layers/models", {}},
      {"layers/operations", {}},
      {"layers/oracle", {"layers/operations"}},
      {"layers/cpu", {"layers/operations"}},
      {"layers/cuda/kernels", {"layers/operations"}},
      {"layers/cuda/products", {"layers/operations", "layers/cuda/kernels"}},
      {"layers/cuda", {"layers/operations", "layers/cuda/kernels", "layers/cuda/products"}},
      {"trainer/plan", {}},
      {"trainer/step", {"trainer/plan"}},
      {"trainer/ranks", {}},
      {"trainer/checkpoint", {"trainer/plan", "trainer/step", "trainer/ranks"}},
      {"trainer/run", {"trainer/plan", "trainer/step", "trainer/ranks", "trainer/checkpoint"}},
      {"launch/options", {}},
      {"launch/commands", {"launch/options"}}};
  return seen;
}

// Rooms that public headers of their folder stand on, and that include none of these in turn. All
// other public headers include no room.
const Names& RoomsBelowPublicHeaders() {
  static const Names rooms = {"trainer/plan", "trainer/step"};
  return rooms;
}

const Names& VendorHeaders() {
  static const Names headers = {"mpi.h",
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
                                "xxhash.h",
                                "liburing.h",
                                "nlohmann/json.hpp",
                                "spdlog/spdlog.h",
                                "boost/program_options.hpp"};
  return headers;
}

// --- Reading the tree ----------------------------------------------------------------------------

struct Include {
  std::string file;  // "trainer/plan/plan.cc"
  int line;
  std::string header;  // as written between the quotes or angle brackets
  bool quoted;
};

bool IsHeader(const std::string& file) { return file.ends_with(".h") || file.ends_with(".cuh"); }
bool IsSource(const std::string& file) {
  return IsHeader(file) || file.ends_with(".cc") || file.ends_with(".cu");
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.find('/')); }
// "trainer/plan", or "trainer" for what lies in no room.
std::string RoomOf(const std::string& path) { return fs::path(path).parent_path().string(); }
bool IsInARoom(const std::string& path) { return RoomOf(path) != FolderOf(path); }
bool IsPublicHeader(const std::string& path) {
  return (IsHeader(path) && !IsInARoom(path)) || PublicHeadersInRooms().contains(path);
}

fs::path Root() { return CONVOY_SOURCE_DIR; }

// The sources of all folders, as paths from the root.
std::vector<std::string> AllSources() {
  std::vector<std::string> files;
  for (const auto& [folder, seen] : FoldersSeenBy()) {
    if (!fs::exists(Root() / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(Root() / folder)) {
      const std::string file = fs::relative(entry.path(), Root()).string();
      if (IsSource(file)) files.push_back(file);
    }
  }
  std::sort(files.begin(), files.end());
  return files;
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

int LinesOf(const std::string& file) {
  std::ifstream text(Root() / file);
  return static_cast<int>(
      std::count(std::istreambuf_iterator<char>(text), std::istreambuf_iterator<char>(), '\n'));
}

// --- Judging an include --------------------------------------------------------------------------

// What is wrong with an include inside of one folder; empty if nothing is.
std::string ComplaintInside(const Include& include) {
  const std::string from = RoomOf(include.file), to = RoomOf(include.header);
  if (from == to || FolderOf(from) == "tests") return {};
  const std::string arrow = from + " -> " + to;
  if (!IsInARoom(include.header)) {
    return RoomsBelowPublicHeaders().contains(from)
               ? "circle of a room and public headers: " + arrow
               : "";
  }
  if (!IsInARoom(include.file)) {
    const bool may = !IsHeader(include.file) || RoomsBelowPublicHeaders().contains(to);
    return may ? "" : "public header that includes a room: " + arrow;
  }
  const auto seen = RoomsSeenBy().find(from);
  if (seen == RoomsSeenBy().end()) return "room without a place in the design: " + from;
  return seen->second.contains(to) ? "" : "arrow between rooms the wrong way: " + arrow;
}

// What is wrong with an include; empty if nothing is.
std::string Complaint(const Include& include) {
  const std::string from = FolderOf(include.file), to = FolderOf(include.header);
  if (IsHeader(include.file) && VendorHeaders().contains(include.header)) {
    return "vendor header in a header";
  }
  if (!include.quoted) return {};
  if (!FoldersSeenBy().contains(to)) return "quoted include from outside the tree";
  if (from == to) return ComplaintInside(include);
  if (!FoldersSeenBy().at(from).contains(to)) return "arrow the wrong way: " + from + " -> " + to;
  if (FoldersHeldToPublicHeaders().contains(from) && to != "core" &&
      !IsPublicHeader(include.header)) {
    return from + " includes a header that is not public";
  }
  return {};
}

// --- Tests ---------------------------------------------------------------------------------------

TEST(Arrows, EveryIncludeFollowsThem) {
  size_t includes = 0, wrong = 0;
  for (const std::string& file : AllSources()) {
    std::ifstream text(Root() / file);
    for (const Include& include : IncludesOf(file, text)) {
      const std::string complaint = Complaint(include);
      EXPECT_EQ(complaint, "") << file << ":" << include.line << " includes " << include.header;
      ++includes;
      wrong += complaint.empty() ? 0 : 1;
    }
  }
  ASSERT_GT(includes, 100u) << "the sources were not found";
  fmt::print("{} of {} includes go around an arrow\n", wrong, includes);
}

TEST(Arrows, FewSourcesOfAFolderLieOutsideItsRooms) {
  std::map<std::string, size_t> outside;
  for (const std::string& file : AllSources()) outside[FolderOf(file)] += IsInARoom(file) ? 0 : 1;
  std::string counts;
  for (const auto& [folder, count] : outside) {
    EXPECT_LE(count, kMostSourcesOutsideRooms) << folder;
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", folder, count);
  }
  fmt::print("sources outside of rooms: {}\n", counts);
}

TEST(Arrows, PublicHeadersAreShort) {
  int longest = 0;
  std::string which;
  for (const std::string& file : AllSources()) {
    if (!IsPublicHeader(file)) continue;
    const int lines = LinesOf(file);
    EXPECT_LE(lines, kMostLinesOfAPublicHeader) << file;
    if (lines > longest) {
      longest = lines;
      which = file;
    }
  }
  fmt::print("the longest public header: {} lines, {}\n", longest, which);
}

TEST(Arrows, EveryRoomHasItsPlaceInTheDesign) {
  for (const std::string& file : AllSources()) {
    const Names without_rooms = {"bench", "tests"};
    if (!IsInARoom(file) || without_rooms.contains(FolderOf(file))) continue;
    EXPECT_TRUE(RoomsSeenBy().contains(RoomOf(file))) << file;
  }
}

TEST(Arrows, AWrongIncludeIsFound) {
  const auto complaint = [](const std::string& file, const std::string& line) {
    std::istringstream text(line);
    return Complaint(IncludesOf(file, text).at(0));
  };
  EXPECT_NE(complaint("layers/x.cc", "#include \"comm/comm.h\""), "");
  EXPECT_NE(complaint("core/x.cc", "  #  include \"layers/layers.h\""), "");
  EXPECT_NE(complaint("comm/host/x.h", "#include <mpi.h>"), "");
  EXPECT_NE(complaint("trainer/x.cc", "#include \"launch/command.h\""), "");
  EXPECT_EQ(complaint("comm/mpi/x.cc", "#include <mpi.h>"), "");
  // Of other folders, their public headers only.
  EXPECT_NE(complaint("launch/x.cc", "#include \"layers/cpu/operation.h\""), "");
  EXPECT_NE(complaint("trainer/step/x.cc", "#include \"comm/device/watchdog.h\""), "");
  EXPECT_NE(complaint("launch/x.cc", "#include \"trainer/step/rank_model.h\""), "");
  EXPECT_EQ(complaint("launch/x.cc", "#include \"layers/layers.h\""), "");
  EXPECT_EQ(complaint("launch/x.cc", "#include \"trainer/plan/plan.h\""), "");
  EXPECT_EQ(complaint("trainer/step/x.cc", "#include \"core/device/stream.h\""), "");
  // Between rooms.
  EXPECT_NE(complaint("comm/host/x.cc", "#include \"comm/mpi/mpi_group.h\""), "");
  EXPECT_NE(complaint("dataloader/images/x.h", "#include \"dataloader/crops/crop_plan.h\""), "");
  EXPECT_NE(complaint("trainer/nowhere/x.cc", "#include \"trainer/plan/plan.h\""), "");
  EXPECT_NE(complaint("comm/x.h", "#include \"comm/host/queue.h\""), "");
  EXPECT_NE(complaint("trainer/plan/x.h", "#include \"trainer/run_config.h\""), "");
  EXPECT_EQ(complaint("comm/x.cc", "#include \"comm/host/queue.h\""), "");
  EXPECT_EQ(complaint("comm/host/x.h", "#include \"comm/comm.h\""), "");
  EXPECT_EQ(complaint("trainer/run_config.h", "#include \"trainer/step/schedule.h\""), "");
}

}  // namespace
}  // namespace convoy
