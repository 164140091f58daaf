// comm/host/datagrams.h - small messages between hosts that may be lost (UDP over IPv4), and the
// addresses that they are sent to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace convoy {

// An IPv4 address and a port, both in network byte order.
struct DatagramAddress {
  uint32_t host = 0;  // 0: none
  uint16_t port = 0;
};

// Returns "10.0.0.7"
std::string ToString(const DatagramAddress& address);

// IPv4 addresses of this host's interfaces that are up, without the loopback.
std::vector<uint32_t> OwnAddresses();

// Returns the one of OwnAddresses() at which the other hosts should be told to reach this one: that
// of a TCP connection which this process has to one of `others`, since that is the interface that
// MPI uses; else one on the same network as one of `others`; else the first; 0 if there is none.
uint32_t AddressTowards(const std::vector<uint32_t>& others);

// A UDP socket on a free port of this host. It is neither copied nor moved.
class DatagramSocket {
 public:
  // Throws (kPeer) if there is no such socket.
  DatagramSocket();
  ~DatagramSocket();
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  uint16_t port() const { return port_; }
  int descriptor() const { return descriptor_; }  // for poll()
  // Never blocks and never fails: what cannot be sent is lost, as it may be on the way.
  void Send(const DatagramAddress& to, std::span<const std::byte> bytes);
  // Returns the next message that has arrived; empty if there is none. Never blocks.
  std::vector<std::byte> Receive();

 private:
  int descriptor_ = -1;
  uint16_t port_ = 0;
};

}  // namespace convoy
