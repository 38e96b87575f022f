#include "allocator/memory_source.h"

namespace vlt {
namespace {

constexpr uint64_t kCallbackGranularity = 4096;

}  // namespace

uint64_t CallbackMemory::granularity() const { return kCallbackGranularity; }

std::byte* CallbackMemory::reserve(uint64_t bytes) {
  void* memory = callbacks_.allocate(callbacks_.context, bytes, kCallbackGranularity);
  if (reinterpret_cast<uintptr_t>(memory) % kCallbackGranularity == 0)
    return static_cast<std::byte*>(memory);
  callbacks_.release(callbacks_.context, memory, bytes);  // not aligned as asked: of no use
  return nullptr;
}

// A block is there, whole, from reserve() to unreserve().
bool CallbackMemory::commit(std::byte*, uint64_t, uint64_t) { return true; }
bool CallbackMemory::decommit(std::byte*, uint64_t, uint64_t) { return false; }

void CallbackMemory::unreserve(std::byte* base, uint64_t bytes) noexcept {
  callbacks_.release(callbacks_.context, base, bytes);
}

}  // namespace vlt
