#include "comm/host/datagrams.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

struct Interface {
  uint32_t address = 0, mask = 0;
};

std::vector<Interface> Interfaces() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(first, freeifaddrs);
  std::vector<Interface> interfaces;
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET ||
        entry->ifa_netmask == nullptr || (entry->ifa_flags & IFF_UP) == 0 ||
        (entry->ifa_flags & IFF_LOOPBACK) != 0) {
      continue;
    }
    sockaddr_in address{}, mask{};
    std::memcpy(&address, entry->ifa_addr, sizeof(address));
    std::memcpy(&mask, entry->ifa_netmask, sizeof(mask));
    interfaces.push_back({address.sin_addr.s_addr, mask.sin_addr.s_addr});
  }
  return interfaces;
}

// Returns the local address of a TCP connection to one of `others`, if `descriptor` is one; else 0.
uint32_t LocalAddressOf(int descriptor, const std::vector<uint32_t>& others) {
  int kind = 0;
  socklen_t bytes = sizeof(kind);
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &kind, &bytes) != 0 || kind != SOCK_STREAM) {
    return 0;
  }
  sockaddr_in address{};
  bytes = sizeof(address);
  if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
      address.sin_family != AF_INET ||
      std::find(others.begin(), others.end(), address.sin_addr.s_addr) == others.end()) {
    return 0;
  }
  bytes = sizeof(address);
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return 0;
  return address.sin_addr.s_addr;
}

uint32_t AddressOfAConnection(const std::vector<uint32_t>& others) {
  std::error_code unknown;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", unknown)) {
    const std::optional<int64_t> descriptor = ParseInteger(entry.path().filename().string());
    if (!descriptor) continue;
    const uint32_t address = LocalAddressOf(static_cast<int>(*descriptor), others);
    if (address != 0) return address;
  }
  return 0;
}

}  // namespace

std::string ToString(const DatagramAddress& address) {
  char text[INET_ADDRSTRLEN] = {};
  const in_addr host{address.host};
  return inet_ntop(AF_INET, &host, text, sizeof(text)) != nullptr ? text : "?";
}

std::vector<uint32_t> OwnAddresses() {
  std::vector<uint32_t> addresses;
  for (const Interface& interface : Interfaces()) addresses.push_back(interface.address);
  return addresses;
}

uint32_t AddressTowards(const std::vector<uint32_t>& others) {
  if (const uint32_t connected = AddressOfAConnection(others); connected != 0) return connected;
  const std::vector<Interface> interfaces = Interfaces();
  for (const Interface& interface : interfaces) {
    for (const uint32_t other : others) {
      if ((interface.address & interface.mask) == (other & interface.mask)) {
        return interface.address;
      }
    }
  }
  return interfaces.empty() ? 0 : interfaces.front().address;
}

DatagramSocket::DatagramSocket()
    : descriptor_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t bytes = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (descriptor_ < 0 || bind(descriptor_, generic, bytes) != 0 ||
      getsockname(descriptor_, generic, &bytes) != 0) {
    const int reason = errno;
    if (descriptor_ >= 0) close(descriptor_);
    throw Error(ExitCode::kPeer, fmt::format("no socket for datagrams: {}", std::strerror(reason)));
  }
  port_ = address.sin_port;
  // Room for the messages of several hundred hosts that come together. The default does, for fewer.
  const int receive_bytes = 1 << 20;
  setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
}

DatagramSocket::~DatagramSocket() { close(descriptor_); }

void DatagramSocket::Send(const DatagramAddress& to, std::span<const std::byte> bytes) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = to.host;
  address.sin_port = to.port;
  sendto(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL,
         reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

std::vector<std::byte> DatagramSocket::Receive() {
  std::vector<std::byte> bytes(2048);
  const ssize_t received = recv(descriptor_, bytes.data(), bytes.size(), 0);
  bytes.resize(received > 0 ? static_cast<size_t>(received) : 0);
  return bytes;
}

}  // namespace convoy
