// A range of addresses to which memory is mapped and unmapped page by page: it grows without
// moving.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vlt {

class VirtualMemory {
 public:
  VirtualMemory() = default;
  // Reserves addresses, no memory. Throws std::bad_alloc.
  explicit VirtualMemory(uint64_t reserved_bytes);
  ~VirtualMemory();
  VirtualMemory(VirtualMemory&& other) noexcept;
  VirtualMemory& operator=(VirtualMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  uint64_t reserved_bytes() const { return reserved_; }
  uint64_t committed_bytes() const { return committed_; }

  // Makes exactly the first `bytes` usable (rounded up to whole pages) and gives back the rest.
  // Throws std::bad_alloc and changes nothing when the system refuses.
  void commit(uint64_t bytes);

  static uint64_t page_bytes();

 private:
  std::byte* data_ = nullptr;
  uint64_t reserved_ = 0;
  uint64_t committed_ = 0;
};

}  // namespace vlt
