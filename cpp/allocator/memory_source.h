// Where an arena's memory comes from: the host's virtual memory, an embedder's callbacks, a device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vlt {

// Addresses first, memory later, so that a block can grow without moving. A source without that
// ability (grows_in_place() false) hands out whole blocks: reserve() allocates, commit() only
// checks.
class MemorySource {
 public:
  virtual ~MemorySource() = default;

  virtual uint64_t granularity() const = 0;  // sizes below are multiples of this power of two
  virtual bool grows_in_place() const = 0;

  // Addresses for `bytes`, without memory yet; null when there are none left.
  virtual std::byte* reserve(uint64_t bytes) = 0;
  // Puts memory behind [from, to) of a reservation. False, and nothing changed, when refused.
  virtual bool commit(std::byte* base, uint64_t from, uint64_t to) = 0;
  // Gives back the memory behind [from, to). False, and nothing changed, when refused.
  virtual bool decommit(std::byte* base, uint64_t from, uint64_t to) = 0;
  // Ends a reservation and whatever is committed in it.
  virtual void unreserve(std::byte* base, uint64_t bytes) noexcept = 0;
};

// Pages of the host. Stateless; lives as long as the process. In host_memory_SYSTEM.cpp.
MemorySource& host_memory();

// An embedder's own allocator. allocate returns null when it has no memory; both get the context.
struct AllocationCallbacks {
  void* (*allocate)(void* context, uint64_t bytes, uint64_t alignment) = nullptr;
  void (*release)(void* context, void* memory, uint64_t bytes) = nullptr;
  void* context = nullptr;
};

class CallbackMemory final : public MemorySource {
 public:
  explicit CallbackMemory(const AllocationCallbacks& callbacks) : callbacks_(callbacks) {}
  uint64_t granularity() const override;
  bool grows_in_place() const override { return false; }
  std::byte* reserve(uint64_t bytes) override;
  bool commit(std::byte* base, uint64_t from, uint64_t to) override;
  bool decommit(std::byte* base, uint64_t from, uint64_t to) override;
  void unreserve(std::byte* base, uint64_t bytes) noexcept override;

 private:
  AllocationCallbacks callbacks_;
};

}  // namespace vlt
