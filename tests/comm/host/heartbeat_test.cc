// Heartbeats: who is lost and who is late, told from numbers that a test gives; and the messages
// between hosts, over a real socket.
#include "comm/host/heartbeat.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <poll.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

namespace convoy {
namespace {

using testing::HasSubstr;

HeartbeatMessage ExampleMessage() {
  RankProgress progress;
  progress.SetStep(12);
  progress.EnterCollective("all-reduce of fc6");
  progress.SetWork("writing a checkpoint");
  progress.beats = 5;
  progress.beats_working = 3;
  HeartbeatMessage message{.key = {1, 2, 3}, .lost_rank = 7, .ranks = {}};
  message.ranks.push_back(SnapshotOf(4, progress));
  return message;
}

TEST(SilenceCounterTest, ARankThatBeatsIsNeverSilent) {
  SilenceCounter counter;
  for (uint32_t beats = 1; beats < 100; ++beats) EXPECT_EQ(counter.Count(beats), 0);
}

TEST(SilenceCounterTest, SilenceIsCountedFromTheLastBeat) {
  SilenceCounter counter;
  EXPECT_EQ(counter.Count(8), 0);
  EXPECT_EQ(counter.Count(8), 1);
  EXPECT_EQ(counter.Count(8), 2);
  EXPECT_EQ(counter.Count(9), 0);
  EXPECT_EQ(counter.Count(9), 1);
}

// Datagrams never arrive through a firewall: that is not a loss.
TEST(SilenceCounterTest, ARankThatWasNeverHeardIsNotSilent) {
  SilenceCounter counter;
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(counter.Count(0), 0);
}

TEST(HeartbeatMessageTest, SaysOnTheOtherSideWhatWasSaidHere) {
  const HeartbeatMessage message = ExampleMessage();
  const auto decoded = DecodeHeartbeat(Encode(message), message.key);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->lost_rank, 7);
  ASSERT_EQ(decoded->ranks.size(), 1u);
  EXPECT_EQ(decoded->ranks[0].world_rank, 4);
  RankProgress copy;
  TakeSnapshot(decoded->ranks[0], copy);
  EXPECT_EQ(copy.step, 12);
  EXPECT_EQ(copy.collectives, 1);
  EXPECT_EQ(copy.last_collective.Get(), "all-reduce of fc6");
  EXPECT_EQ(copy.work.Get(), "writing a checkpoint");
  EXPECT_EQ(copy.beats, 5u);
  EXPECT_EQ(copy.beats_working, 3u);
}

TEST(HeartbeatMessageTest, AnotherRunsMessageIsIgnored) {
  const HeartbeatMessage message = ExampleMessage();
  EXPECT_FALSE(DecodeHeartbeat(Encode(message), {1, 2, 4}));
}

TEST(HeartbeatMessageTest, AMessageOfAnyOtherLengthIsIgnored) {
  const HeartbeatMessage message = ExampleMessage();
  std::vector<std::byte> bytes = Encode(message);
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(DecodeHeartbeat(bytes, message.key));
  for (size_t length = 0; length + 1 < bytes.size(); ++length) {
    EXPECT_FALSE(DecodeHeartbeat({bytes.data(), length}, message.key)) << length;
  }
}

TEST(HeartbeatMessageTest, FitsIntoAPacketOfEthernet) {
  HeartbeatMessage message;
  message.ranks.resize(HeartbeatMessage::kMostRanks);
  EXPECT_LE(Encode(message).size(), 1472u);
}

TEST(HeartbeatMessageTest, AnOlderMessageThatArrivesLaterIsIgnored) {
  RankProgress copy;
  HeartbeatMessage::Rank rank{.beats = UINT32_MAX, .step = 10};
  TakeSnapshot(rank, copy);
  rank = {.beats = 2, .step = 11};  // the counter has wrapped
  TakeSnapshot(rank, copy);
  EXPECT_EQ(copy.step, 11);
  rank = {.beats = UINT32_MAX, .step = 10};
  TakeSnapshot(rank, copy);
  EXPECT_EQ(copy.step, 11);
}

TEST(SharedTextTest, KeepsTheFirstCharactersOfALongText) {
  SharedText text;
  text.Set(std::string(100, 'x'));
  EXPECT_EQ(text.Get(), std::string(SharedText::kBytes - 1, 'x'));
  text.Set("");
  EXPECT_EQ(text.Get(), "");
}

TEST(DatagramsTest, AMessageArrivesAtAnotherSocket) {
  DatagramSocket from, to;
  const std::vector<std::byte> bytes = Encode(ExampleMessage());
  from.Send({.host = htonl(INADDR_LOOPBACK), .port = to.port()}, bytes);
  pollfd source{.fd = to.descriptor(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&source, 1, 60000), 1);
  EXPECT_EQ(to.Receive(), bytes);
  EXPECT_TRUE(to.Receive().empty());
}

// --- Who keeps the others waiting
// ------------------------------------------------------------------

class WaitTest : public testing::Test {
 protected:
  // Ranks 0 and 1 are on this host, 2 and 3 on another one.
  WaitTest() : progress_(4) {
    for (int r = 0; r < 4; ++r) {
      RankProgress& progress = progress_[static_cast<size_t>(r)];
      progress.beats = 100;
      progress.step = 17;
      peers_.push_back({.world_rank = r,
                        .host = r < 2 ? "h1" : "h2",
                        .progress = &progress,
                        .is_remote = r >= 2});
    }
  }
  // For so many beats, two of which are a second.
  void LetWait(int rank, uint32_t beats) {
    progress_[static_cast<size_t>(rank)].beats_waiting = beats;
  }

  std::deque<RankProgress> progress_;
  std::vector<Peer> peers_;
};

TEST_F(WaitTest, NothingIsSaidOfShortWaits) {
  for (const int rank : {0, 1, 3}) LetWait(rank, 19);
  EXPECT_FALSE(DescribeWait(peers_));
}

TEST_F(WaitTest, TheRankThatDoesNotWaitIsNamedWithItsStep) {
  for (const int rank : {0, 1, 3}) LetWait(rank, 40);
  EXPECT_EQ(DescribeWait(peers_), "waiting for rank 2 (h2): step 17, for 20 s");
}

TEST_F(WaitTest, WorkIsNamed) {
  for (const int rank : {0, 2, 3}) LetWait(rank, 40);
  progress_[1].SetWork("writing a checkpoint");
  progress_[1].beats_working = 60;
  EXPECT_EQ(DescribeWait(peers_), "waiting for rank 1 (h1): writing a checkpoint, for 30 s");
}

// Ranks that exchange a pulse while others work do not wait for long at a time.
TEST_F(WaitTest, LongWorkIsNamedWithoutALongWait) {
  progress_[3].SetWork("opening /data");
  progress_[3].beats_working = 20;
  EXPECT_EQ(DescribeWait(peers_), "waiting for rank 3 (h2): opening /data, for 10 s");
}

TEST_F(WaitTest, NobodyWaitsWhereAllWork) {
  for (RankProgress& progress : progress_) {
    progress.SetWork("evaluating");
    progress.beats_working = 600;
  }
  EXPECT_FALSE(DescribeWait(peers_));
}

TEST_F(WaitTest, ManyAreCounted) {
  for (int r = 4; r < 8; ++r) {
    progress_.emplace_back().beats = 1;
    peers_.push_back({.world_rank = r, .host = "h3", .progress = &progress_.back()});
  }
  LetWait(0, 40);
  EXPECT_THAT(DescribeWait(peers_).value(), HasSubstr("rank 3 (h2): step 17, for 20 s and 4 more"));
}

// --- The thread
// ------------------------------------------------------------------------------------

// A rank on this host that has beaten once and never again.
TEST(HeartbeatTest, ASilentRankIsMarkedLostAndTheProcessEnds) {
  const auto run = [] {
    std::vector<RankProgress> progress(2);
    progress[1].beats = 1;
    progress[1].SetStep(9);
    std::vector<Peer> ranks;
    for (int r = 0; r < 2; ++r) {
      RankProgress* const own = &progress[static_cast<size_t>(r)];
      ranks.push_back({.world_rank = r, .host = "h1", .progress = own});
    }
    const Heartbeat heartbeat(std::move(ranks), 0, nullptr,
                              {.silence_s = 1, .report = {}, .on_loss = [](const Error& error) {
                                 fmt::print(stderr, "{}\n", error.what());
                               }});
    poll(nullptr, 0, 60000);  // no Error reaches this wait
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run(), testing::ExitedWithCode(6), "rank 1 \\(h1\\): step 9.*silent");
}

// Two hosts in one process: each hears of the other what its ranks do.
TEST(HeartbeatTest, AHostHearsOfTheRanksOfAnother) {
  std::vector<RankProgress> here(2), there(2);  // what either host knows of ranks 0 and 1
  const auto ranks_of = [](std::vector<RankProgress>& progress, int own) {
    std::vector<Peer> ranks;
    for (int r = 0; r < 2; ++r) {
      RankProgress* const of_rank = &progress[static_cast<size_t>(r)];
      ranks.push_back({.world_rank = r,
                       .host = r == 0 ? "h1" : "h2",
                       .progress = of_rank,
                       .is_remote = r != own});
    }
    return ranks;
  };
  auto first = std::make_unique<HeartbeatLink>(), second = std::make_unique<HeartbeatLink>();
  first->socket = std::make_unique<DatagramSocket>();
  second->socket = std::make_unique<DatagramSocket>();
  const uint32_t loopback = htonl(INADDR_LOOPBACK);
  first->hosts = {{loopback, second->socket->port()}};
  second->hosts = {{loopback, first->socket->port()}};
  there[1].SetStep(33);
  {
    const Heartbeat one(ranks_of(here, 0), 0, std::move(first), {});
    const Heartbeat two(ranks_of(there, 1), 1, std::move(second), {});
    for (int i = 0; i < 600 && (here[1].beats < 3 || there[0].beats < 3); ++i)
      poll(nullptr, 0, 100);
  }
  EXPECT_GE(here[1].beats, 3u);
  EXPECT_GE(there[0].beats, 3u);
  EXPECT_EQ(here[1].step, 33);
  EXPECT_EQ(here[1].lost, 0);
}

}  // namespace
}  // namespace convoy
