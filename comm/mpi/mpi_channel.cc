#include "comm/mpi/mpi_channel.h"

#include <mpi.h>

#include <cstdlib>
#include <exception>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "comm/host/rank_group.h"

namespace convoy {
namespace {

void Check(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw Error(ExitCode::kPeer, fmt::format("{} failed: {}", call, text),
              "a rank or the network between the ranks was lost; run the same command again");
}

// `count` blocks of `bytes` bytes, `stride_bytes` apart, as an MPI type of one block.
class BlockType {
 public:
  BlockType(int64_t bytes, int64_t stride_bytes) {
    MPI_Datatype block = MPI_DATATYPE_NULL;
    Check(MPI_Type_contiguous(static_cast<int>(bytes), MPI_BYTE, &block), "MPI_Type_contiguous");
    const int result = MPI_Type_create_resized(block, 0, stride_bytes, &type_);
    MPI_Type_free(&block);
    Check(result, "MPI_Type_create_resized");
    Check(MPI_Type_commit(&type_), "MPI_Type_commit");
  }
  // MPI keeps what calls under way need of it.
  ~BlockType() { MPI_Type_free(&type_); }
  BlockType(const BlockType&) = delete;
  BlockType& operator=(const BlockType&) = delete;

  MPI_Datatype type() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

}  // namespace

// --- The library ---------------------------------------------------------------------------------

struct MpiLibrary::State {
  std::shared_mutex calls;  // held shared during a call, exclusively to shut
  bool shut = false;

  // Held during a call.
  std::shared_lock<std::shared_mutex> Enter() {
    std::shared_lock lock(calls);
    if (shut) {
      throw PeerFailure("MPI is no longer used since a collective was given up");
    }
    return lock;
  }
};

MpiLibrary::MpiLibrary() : state_(std::make_shared<State>()) {
  int initialised = 0;
  MPI_Initialized(&initialised);
  CONVOY_CHECK(initialised == 0, "MPI is initialised already");
  // Blocking calls of Open MPI spin; they yield at least, because our own threads share the cores.
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/0);
  int provided = 0;
  Check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_MULTIPLE) {
    throw Error(ExitCode::kUsage, fmt::format("{} does not offer MPI_THREAD_MULTIPLE", name()),
                "build convoy with an MPI that does; Open MPI 4 and MPICH 4 do");
  }
}

MpiLibrary::~MpiLibrary() {
  if (!shut()) MPI_Finalize();
}

std::string MpiLibrary::name() const {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  // "Open MPI v4.1.4, package: ..."; "MPICH Version:\t4.0.2\n..."
  std::string first(text);
  first = first.substr(0, first.find_first_of(",\n"));
  if (const size_t v = first.find(" v"); v != std::string::npos) first.erase(v + 1, 1);
  return first;
}

std::string MpiLibrary::standard() const {
  int version = 0, subversion = 0;
  MPI_Get_version(&version, &subversion);
  return fmt::format("MPI {}.{}", version, subversion);
}

void MpiLibrary::Shut() {
  const std::lock_guard lock(state_->calls);
  state_->shut = true;
}

bool MpiLibrary::shut() const {
  const std::shared_lock lock(state_->calls);
  return state_->shut;
}

void MpiLibrary::Abort(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

// --- Channels ------------------------------------------------------------------------------------

struct MpiChannel::Handle {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
};

MpiChannel MpiLibrary::World() {
  const auto call = state_->Enter();
  auto handle = std::make_unique<MpiChannel::Handle>();
  Check(MPI_Comm_dup(MPI_COMM_WORLD, &handle->comm), "MPI_Comm_dup");
  return {state_, std::move(handle)};
}

MpiChannel::MpiChannel(std::shared_ptr<MpiLibrary::State> library, std::unique_ptr<Handle> handle)
    : library_(std::move(library)), handle_(std::move(handle)) {
  MPI_Comm_set_errhandler(handle_->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(handle_->comm, &rank_);
  MPI_Comm_size(handle_->comm, &size_);
}

MpiChannel::MpiChannel(MpiChannel&&) noexcept = default;

MpiChannel::~MpiChannel() {
  // Freeing is collective: not while only this rank fails.
  if (!handle_ || std::uncaught_exceptions() > 0) return;
  const std::shared_lock lock(library_->calls);
  if (!library_->shut) MPI_Comm_free(&handle_->comm);
}

MpiChannel MpiChannel::Split(int colour, int key) const {
  const auto call = library_->Enter();
  auto handle = std::make_unique<Handle>();
  Check(MPI_Comm_split(handle_->comm, colour, key, &handle->comm), "MPI_Comm_split");
  return {library_, std::move(handle)};
}

MpiChannel MpiChannel::SplitByHost() const {
  const auto call = library_->Enter();
  auto handle = std::make_unique<Handle>();
  Check(
      MPI_Comm_split_type(handle_->comm, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &handle->comm),
      "MPI_Comm_split_type");
  return {library_, std::move(handle)};
}

void MpiChannel::AllGather(const void* value, int64_t bytes, void* values) const {
  const auto call = library_->Enter();
  const int count = static_cast<int>(bytes);
  Check(MPI_Allgather(value, count, MPI_BYTE, values, count, MPI_BYTE, handle_->comm),
        "MPI_Allgather");
}

void MpiChannel::Broadcast(void* value, int64_t bytes, int root) const {
  const auto call = library_->Enter();
  Check(MPI_Bcast(value, static_cast<int>(bytes), MPI_BYTE, root, handle_->comm), "MPI_Bcast");
}

bool MpiChannel::Agree(bool yes) const {
  const auto call = library_->Enter();
  int all = yes ? 1 : 0;
  Check(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, handle_->comm), "MPI_Allreduce");
  return all == 1;
}

void MpiChannel::Start(const MpiCall& call) {
  const auto entered = library_->Enter();
  const MPI_Comm comm = handle_->comm;
  MPI_Request* const request = &handle_->request;
  const int bytes = static_cast<int>(call.bytes);
  void* const send = call.send != nullptr ? call.send : MPI_IN_PLACE;
  void* const receive = call.receive != nullptr ? call.receive : MPI_IN_PLACE;
  const bool is_root = call.root == rank_;
  switch (call.kind) {
    case CollectiveKind::kGather: {
      const BlockType blocks(bytes, call.stride_bytes);
      return Check(MPI_Igather(send, bytes, MPI_BYTE, is_root ? receive : nullptr, 1, blocks.type(),
                               call.root, comm, request),
                   "MPI_Igather");
    }
    case CollectiveKind::kScatter: {
      const BlockType blocks(bytes, call.stride_bytes);
      return Check(MPI_Iscatter(is_root ? send : nullptr, 1, blocks.type(), receive, bytes,
                                MPI_BYTE, call.root, comm, request),
                   "MPI_Iscatter");
    }
    case CollectiveKind::kBroadcast:
      return Check(MPI_Ibcast(receive, bytes, MPI_BYTE, call.root, comm, request), "MPI_Ibcast");
    case CollectiveKind::kBarrier:
      return Check(MPI_Ibarrier(comm, request), "MPI_Ibarrier");
    case CollectiveKind::kAllReduce:
    case CollectiveKind::kAllGather:
    case CollectiveKind::kReduceScatter:
      break;  // comm/mpi/host_exchange.h
  }
  CONVOY_CHECK(false, "a channel does not carry this kind of collective");
}

bool MpiChannel::Test() {
  const auto call = library_->Enter();
  int done = 0;
  Check(MPI_Test(&handle_->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

// --- Messages ------------------------------------------------------------------------------------

struct MpiMessages::State {
  const std::shared_ptr<MpiLibrary::State> library;
  const MPI_Comm comm;
  // Of the messages under way, in the same order.
  std::vector<MPI_Request> requests{};
  std::vector<int64_t> ids{};
  std::vector<int> places{};  // of the finished ones
  std::vector<int64_t> done{};
};

MpiMessages::MpiMessages(const MpiChannel& channel)
    : state_(new State{.library = channel.library_, .comm = channel.handle_->comm}) {}

MpiMessages::~MpiMessages() = default;

void MpiMessages::Send(const void* data, int64_t bytes, int to, int tag, int64_t id) {
  const auto call = state_->library->Enter();
  MPI_Request request = MPI_REQUEST_NULL;
  Check(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, state_->comm, &request),
        "MPI_Isend");
  state_->requests.push_back(request);
  state_->ids.push_back(id);
}

void MpiMessages::Receive(void* data, int64_t bytes, int from, int tag, int64_t id) {
  const auto call = state_->library->Enter();
  MPI_Request request = MPI_REQUEST_NULL;
  Check(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, state_->comm, &request),
        "MPI_Irecv");
  state_->requests.push_back(request);
  state_->ids.push_back(id);
}

const std::vector<int64_t>& MpiMessages::Test() {
  State& state = *state_;
  state.done.clear();
  const auto call = state.library->Enter();
  state.places.resize(state.requests.size());
  int finished = 0;
  Check(MPI_Testsome(static_cast<int>(state.requests.size()), state.requests.data(), &finished,
                     state.places.data(), MPI_STATUSES_IGNORE),
        "MPI_Testsome");
  if (finished <= 0) return state.done;  // MPI_UNDEFINED is negative: there are none
  for (int i = 0; i < finished; ++i) {
    state.done.push_back(state.ids[static_cast<size_t>(state.places[static_cast<size_t>(i)])]);
  }
  // MPI has set the finished requests to null.
  size_t kept = 0;
  for (size_t i = 0; i < state.requests.size(); ++i) {
    if (state.requests[i] == MPI_REQUEST_NULL) continue;
    state.requests[kept] = state.requests[i];
    state.ids[kept++] = state.ids[i];
  }
  state.requests.resize(kept);
  state.ids.resize(kept);
  return state.done;
}

}  // namespace convoy
