// Memory for prepared weights.
#include <algorithm>
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
constexpr uint64_t kSlab = uint64_t{16} << 20;

uint64_t round_up(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

}  // namespace

float* WeightPool::allocate(int64_t count) {
  const uint64_t needed = round_up(static_cast<uint64_t>(count) * sizeof(float), kCacheLine);
  if (needed > left_) {
    // A small model's first slab is as small as its first tensor asks, later ones are whole.
    const uint64_t slab = round_up(slabs_.empty() ? needed : std::max(needed, kSlab), kHugePage);
    void* memory = std::aligned_alloc(kHugePage, slab);
    if (!memory) throw std::bad_alloc();
    slabs_.emplace_back(static_cast<float*>(memory));
#if defined(__linux__)
    // Weights are streamed once per row block: this is 512 times fewer TLB misses.
    madvise(memory, slab, MADV_HUGEPAGE);  // a hint; failing is fine
#endif
    next_ = static_cast<float*>(memory);
    left_ = slab;
    bytes_ += slab;
  }
  float* result = next_;
  next_ += needed / sizeof(float);
  left_ -= needed;
  return result;
}

void WeightPool::Free::operator()(float* p) const noexcept { std::free(p); }

}  // namespace vlt
