// A list of labels for the images a.jpg, b.png and b.jpg, in any of its forms.
#include "dataloader/sources/csv.h"
#include "dataloader/sources/label_list.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::Parses([&] {
    for (const CsvRow& row : ParseCsv(text, "labels.csv")) {
      fuzz::Require(row.line >= 1 && !row.cells.empty(), "a row without cells");
    }
  });
  MemberTableBuilder builder;
  for (const char* name : {"a.jpg", "b.png", "b.jpg"}) {
    builder.Add(builder.Folder(""), name, 0, 0, 0);
  }
  const MemberTable members = builder.Finish({});
  const std::string path = fuzz::WriteFile("labels.csv", text);
  fuzz::Parses([&] {
    const std::optional<LabelList> list = ReadLabelList(path, members);
    if (!list) return;
    const MemberTable arranged = ArrangeByLabels(members, *list, "folder");
    fuzz::Require(arranged.IsConsistent() && arranged.size() == members.size(),
                  "an image is lost among its classes");
  });
  return 0;
}
