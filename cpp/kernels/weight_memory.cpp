// Memory for prepared weights.
#include <cstdlib>
#include <new>

#include "kernels/backend.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace vlt {
namespace {

constexpr uint64_t kCacheLine = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;

}  // namespace

WeightMemory::WeightMemory(uint64_t count) {
  // Weights are streamed once per row block: from huge pages, that is 512 times fewer TLB misses.
  const bool large = count * sizeof(float) >= 2 * kHugePage;
  const uint64_t alignment = large ? kHugePage : kCacheLine;
  bytes_ = (count * sizeof(float) + alignment - 1) / alignment * alignment;
  if (bytes_ == 0) return;
  void* memory = std::aligned_alloc(alignment, bytes_);
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  if (large) madvise(memory, bytes_, MADV_HUGEPAGE);  // a hint; failing is fine
#endif
  data_.reset(static_cast<float*>(memory));
}

void WeightMemory::Free::operator()(float* p) const noexcept { std::free(p); }

}  // namespace vlt
