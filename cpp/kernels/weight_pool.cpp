// Memory for prepared weights on the host: arrays cut from large slabs, so that even a small model
// sits in huge pages.
#include <algorithm>
#include <new>

#include "kernels/backend.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace vlt {
namespace {

constexpr uint64_t kCacheLine = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr std::align_val_t kAlignment{kHugePage};
constexpr uint64_t kSlab = uint64_t{16} << 20;

uint64_t round_up(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

class HostWeightPool final : public WeightPool {
 public:
  void* allocate(uint64_t bytes) override {
    const uint64_t needed = round_up(bytes, kCacheLine);
    if (needed > left_) add_slab(needed);
    std::byte* result = next_;
    next_ += needed;
    left_ -= needed;
    return result;
  }
  uint64_t bytes() const override { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const noexcept { operator delete(p, kAlignment); }
  };

  void add_slab(uint64_t needed) {
    // A small model's first slab is as small as its first tensor asks, later ones are whole.
    const uint64_t slab = round_up(slabs_.empty() ? needed : std::max(needed, kSlab), kHugePage);
    slabs_.reserve(slabs_.size() + 1);  // so that a slab is always kept
    auto* memory = static_cast<std::byte*>(operator new(slab, kAlignment));
    slabs_.emplace_back(memory);
#if defined(__linux__)
    // Weights are streamed once per row block: this is 512 times fewer TLB misses.
    madvise(memory, slab, MADV_HUGEPAGE);  // a hint; failing is fine
#endif
    next_ = memory;
    left_ = slab;
    bytes_ += slab;
  }

  std::vector<std::unique_ptr<std::byte[], Free>> slabs_;
  std::byte* next_ = nullptr;
  uint64_t left_ = 0;  // bytes of the last slab behind next_
  uint64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<WeightPool> HostBackend::create_weight_pool() const {
  return std::make_unique<HostWeightPool>();
}

const void* HostBackend::prepare_table(const float* values, int64_t count, WeightPool& pool) const {
  return prepare_vector(values, count, pool);
}

const float* HostBackend::prepare_vector(const float* values, int64_t count,
                                         WeightPool& pool) const {
  auto* copy = static_cast<float*>(pool.allocate(static_cast<uint64_t>(count) * sizeof(float)));
  std::copy(values, values + count, copy);
  return copy;
}

}  // namespace vlt
