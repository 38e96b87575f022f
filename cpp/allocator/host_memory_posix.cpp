// The host's pages, by mmap.
#include <sys/mman.h>
#include <unistd.h>

#include "allocator/memory_source.h"

namespace vlt {
namespace {

constexpr int kNoMemoryYet = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

class HostMemory final : public MemorySource {
 public:
  uint64_t granularity() const override { return page_bytes_; }
  bool grows_in_place() const override { return true; }

  std::byte* reserve(uint64_t bytes) override {
    void* address = mmap(nullptr, bytes, PROT_NONE, kNoMemoryYet, -1, 0);
    return address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address);
  }

  bool commit(std::byte* base, uint64_t from, uint64_t to) override {
    if (mprotect(base + from, to - from, PROT_READ | PROT_WRITE) != 0) return false;
#if defined(MADV_HUGEPAGE)
    madvise(base + from, to - from, MADV_HUGEPAGE);  // a hint; failing is fine
#endif
    return true;
  }

  bool decommit(std::byte* base, uint64_t from, uint64_t to) override {
    // A fresh mapping over the old one drops its pages and takes their place in one call.
    return mmap(base + from, to - from, PROT_NONE, kNoMemoryYet | MAP_FIXED, -1, 0) != MAP_FAILED;
  }

  void unreserve(std::byte* base, uint64_t bytes) noexcept override { munmap(base, bytes); }

 private:
  const uint64_t page_bytes_ = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
};

}  // namespace

MemorySource& host_memory() {
  static HostMemory& memory = *new HostMemory;  // never destroyed: sessions may outlive main()
  return memory;
}

}  // namespace vlt
