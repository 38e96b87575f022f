// The host's pages, by VirtualAlloc.
#include <windows.h>

#include "allocator/memory_source.h"

namespace vlt {
namespace {

uint64_t page_bytes() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

class HostMemory final : public MemorySource {
 public:
  uint64_t granularity() const override { return page_bytes_; }
  bool grows_in_place() const override { return true; }

  std::byte* reserve(uint64_t bytes) override {
    return static_cast<std::byte*>(VirtualAlloc(nullptr, bytes, MEM_RESERVE, PAGE_NOACCESS));
  }

  bool commit(std::byte* base, uint64_t from, uint64_t to) override {
    return VirtualAlloc(base + from, to - from, MEM_COMMIT, PAGE_READWRITE) != nullptr;
  }

  bool decommit(std::byte* base, uint64_t from, uint64_t to) override {
    return VirtualFree(base + from, to - from, MEM_DECOMMIT) != 0;
  }

  void unreserve(std::byte* base, uint64_t) noexcept override { VirtualFree(base, 0, MEM_RELEASE); }

 private:
  const uint64_t page_bytes_ = page_bytes();
};

}  // namespace

MemorySource& host_memory() {
  static HostMemory& memory = *new HostMemory;  // never destroyed: sessions may outlive main()
  return memory;
}

}  // namespace vlt
