#include "dataloader/archives/tar.h"

#include <gtest/gtest.h>

#include <cstring>

#include "dataloader/archives/tar_writer.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::TarMaker;

std::vector<TarMember> Members(const std::string& archive) {
  const MemoryBytes bytes("a.tar", {archive.begin(), archive.end()});
  TarReader reader(bytes);
  std::vector<TarMember> members;
  TarMember member;
  while (reader.Next(member)) members.push_back(member);
  return members;
}

Error Refused(const std::string& archive) {
  return ErrorOf([&] { Members(archive); });
}

// A pax record with its own length in front.
std::string PaxRecord(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;  // space, equals sign, line end
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) ++length;
  return fmt::format("{} {}={}\n", length, key, value);
}

TEST(TarReader, ListsFilesAndFoldersWithTheirPlaces) {
  const std::string archive = TarMaker()
                                  .Add("./a/", "", '5')
                                  .Add("a//b.jpg", "hello")
                                  .Add("c", std::string(512, 'x'))
                                  .Add("d", "")
                                  .Finish();
  const std::vector<TarMember> members = Members(archive);
  ASSERT_EQ(members.size(), 4u);
  EXPECT_EQ(members[0].name, "a");
  EXPECT_TRUE(members[0].is_folder);
  EXPECT_EQ(members[1].name, "a/b.jpg");
  EXPECT_EQ(archive.substr(static_cast<size_t>(members[1].offset), 5), "hello");
  EXPECT_EQ(members[1].header, 512);
  EXPECT_EQ(members[2].bytes, 512);
  EXPECT_EQ(members[3].bytes, 0);
}

TEST(TarReader, ReadsLongNamesOfGnuAndPaxAndThePrefixOfUstar) {
  const std::string name = std::string(60, 'd') + "/" + std::string(180, 'f') + ".JPEG";
  EXPECT_EQ(Members(TarMaker()
                        .Add("././@LongLink", name + std::string(1, '\0'), 'L')
                        .Add(name.substr(0, 100), "x")
                        .Finish())[0]
                .name,
            name);
  EXPECT_EQ(Members(TarMaker()
                        .Add("pax", PaxRecord("mtime", "1.5") + PaxRecord("path", name), 'x')
                        .Add("short", "x")
                        .Finish())[0]
                .name,
            name);
  std::string header = TarMaker::Header("file", "00000000000", '0');
  std::memcpy(header.data() + 345, "folder", 6);
  unsigned sum = 0;
  std::memset(header.data() + 148, ' ', 8);
  for (const char c : header) sum += static_cast<unsigned char>(c);
  std::memcpy(header.data() + 148, fmt::format("{:06o}\0 ", sum).data(), 8);
  EXPECT_EQ(Members(TarMaker().AddRaw(header).Finish())[0].name, "folder/file");
}

TEST(TarReader, ReadsSizesInBase256AndPax) {
  const std::string base256 = std::string("\x80\0\0\0\0\0\0\0\0\0\0\x05", 12);
  const std::string padded = "hello" + std::string(507, '\0');
  EXPECT_EQ(Members(TarMaker().AddHeader("a", base256).AddRaw(padded).Finish())[0].bytes, 5);
  EXPECT_EQ(Members(TarMaker()
                        .Add("pax", PaxRecord("size", "5"), 'x')
                        .AddHeader("a", "00000000000")
                        .AddRaw(padded)
                        .Finish())[0]
                .bytes,
            5);
}

TEST(TarReader, ReadsWhatOwnWriterWrites) {
  const std::string name(300, 'n');
  std::string archive = TarHeader("a", 3) + "abc" + TarPadding(3) + TarHeader(name, 0) + TarEnd();
  const std::vector<TarMember> members = Members(archive);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].bytes, 3);
  EXPECT_EQ(members[1].name, name);
  uint8_t block[kTarBlock];
  std::memcpy(block, TarHeader("big", int64_t{1} << 36).data(), kTarBlock);
  EXPECT_EQ(TarHeaderSize(block), int64_t{1} << 36);
}

TEST(TarReader, RefusesWhatLeadsOutOfTheArchive) {
  ExpectError(Refused(TarMaker().Add("good", "x").Add("../evil", "x").Finish()), ExitCode::kData,
              {"a.tar", "../evil", "byte 1024"});
  ExpectError(Refused(TarMaker().Add("a/../../evil", "x").Finish()), ExitCode::kData, {"\"..\""});
  ExpectError(Refused(TarMaker().Add("/etc/passwd", "x").Finish()), ExitCode::kData, {"absolute"});
  ExpectError(
      Refused(TarMaker().Add("pax", PaxRecord("path", "/etc/x"), 'x').Add("a", "").Finish()),
      ExitCode::kData, {"absolute"});
  ExpectError(Refused(TarMaker().Add("a\nb", "x").Finish()), ExitCode::kData, {"control"});
  for (const char type : {'1', '2'}) {
    ExpectError(Refused(TarMaker().Add("link", "", type).Finish()), ExitCode::kData, {"link"});
  }
  for (const char type : {'3', '4', '6'}) {
    ExpectError(Refused(TarMaker().Add("device", "", type).Finish()), ExitCode::kData, {"device"});
  }
  ExpectError(Refused(TarMaker().Add("sparse", "", 'S').Finish()), ExitCode::kData, {"0x53"});
  ExpectError(Refused(TarMaker().Add("p", PaxRecord("GNU.sparse.major", "1"), 'x').Finish()),
              ExitCode::kData, {"sparse"});
}

TEST(TarReader, RefusesSizesThatLie) {
  ExpectError(Refused(TarMaker().AddHeader("a", "00000100000").Finish()), ExitCode::kData,
              {"member a of 32768 bytes"});
  ExpectError(Refused(TarMaker().AddHeader("a", "77777777777").Finish()), ExitCode::kData,
              {"ends"});
  const std::string huge = "\x80" + std::string(11, '\xFF');
  const std::string largest = std::string("\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12);
  const std::string negative(12, '\xFF');
  for (const std::string& size : {huge, negative}) {
    ExpectError(Refused(TarMaker().AddHeader("a", size).Finish()), ExitCode::kData, {"size"});
  }
  ExpectError(Refused(TarMaker().AddHeader("a", largest).Finish()), ExitCode::kData,
              {"9223372036854775807 bytes"});
  ExpectError(Refused(TarMaker().AddHeader("a", "0000000xyz0").Finish()), ExitCode::kData,
              {"size"});
  for (const std::string& pax :
       {std::string("5 a\n"), std::string("99 path=x\n"), std::string("-1 path=x\n"),
        std::string("path"), PaxRecord("size", "-5"), PaxRecord("size", "99999999999999999999")}) {
    EXPECT_EQ(Refused(TarMaker().Add("pax", pax, 'x').Add("a", "").Finish()).exit_code(),
              ExitCode::kData)
        << pax;
  }
  ExpectError(Refused(TarMaker().AddHeader("long", "00010000000", 'L').Finish()), ExitCode::kData,
              {"ends"});
}

TEST(TarReader, RefusesDamageAndTruncation) {
  const std::string whole = TarMaker().Add("a", "hello").Add("b", "world").Finish();
  std::string damaged = whole;
  damaged[1024] ^= 1;
  ExpectError(Refused(damaged), ExitCode::kData, {"checksum", "byte 1024"});
  for (const size_t bytes : {0u, 100u, 512u, 700u, 1024u, 1100u, 1536u, 2047u, 2048u}) {
    EXPECT_EQ(Refused(whole.substr(0, bytes)).exit_code(), ExitCode::kData) << bytes;
  }
  EXPECT_EQ(Members(whole.substr(0, 2048 + 512)).size(), 2u) << "one block of end mark is enough";
  ExpectError(Refused(whole + std::string(2 << 20, 'x')), ExitCode::kData, {"bytes follow"});
}

// An archive with any single bit changed is either read, or refused with an Error.
TEST(TarReader, SurvivesAnyFlippedBitOfAHeader) {
  const std::string whole =
      TarMaker().Add("pax", PaxRecord("path", "x/y"), 'x').Add("a", "hello").Finish();
  for (size_t bit = 0; bit < 8 * 2048; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    try {
      Members(damaged);
    } catch (const Error& error) {
      ASSERT_EQ(error.exit_code(), ExitCode::kData);
    }
  }
}

}  // namespace
}  // namespace convoy
