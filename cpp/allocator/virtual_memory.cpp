#include "allocator/virtual_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <utility>

namespace vlt {
namespace {

uint64_t round_up(uint64_t bytes) {
  const uint64_t page = VirtualMemory::page_bytes();
  return (bytes + page - 1) / page * page;
}

constexpr int kNoMemoryYet = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

}  // namespace

uint64_t VirtualMemory::page_bytes() {
  static const auto bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

VirtualMemory::VirtualMemory(uint64_t reserved_bytes) : reserved_(round_up(reserved_bytes)) {
  void* address = mmap(nullptr, reserved_, PROT_NONE, kNoMemoryYet, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(address);
}

VirtualMemory::~VirtualMemory() {
  if (data_) munmap(data_, reserved_);
}

VirtualMemory::VirtualMemory(VirtualMemory&& other) noexcept { *this = std::move(other); }

VirtualMemory& VirtualMemory::operator=(VirtualMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(reserved_, other.reserved_);
  std::swap(committed_, other.committed_);
  return *this;
}

void VirtualMemory::commit(uint64_t bytes) {
  bytes = round_up(bytes);
  if (bytes > reserved_) throw std::bad_alloc();
  if (bytes > committed_) {
    std::byte* added = data_ + committed_;
    if (mprotect(added, bytes - committed_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(added, bytes - committed_, MADV_HUGEPAGE);  // a hint; failing is fine
#endif
  } else if (bytes < committed_) {
    // A fresh mapping over the old one drops its pages and takes their place in one call.
    void* address =
        mmap(data_ + bytes, committed_ - bytes, PROT_NONE, kNoMemoryYet | MAP_FIXED, -1, 0);
    if (address == MAP_FAILED) return;  // nothing lost: the memory stays
  }
  committed_ = bytes;
}

}  // namespace vlt
