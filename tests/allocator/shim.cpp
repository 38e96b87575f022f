#include "shim.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

#include "allocator/arena.h"
#include "allocator/lifetime_plan.h"
#include "allocator/memory_source.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<vlt::UsageRecord> records_of(int32_t count, const int32_t* first_op,
                                         const int32_t* last_op, const uint64_t* constant_bytes,
                                         const uint64_t* bytes_per_token,
                                         const uint64_t* bytes_per_sequence) {
  std::vector<vlt::UsageRecord> records;
  for (int32_t i = 0; i < count; ++i)
    records.push_back(
        {first_op[i], last_op[i], constant_bytes[i], bytes_per_token[i], bytes_per_sequence[i]});
  return records;
}

// Passes calls on, counts what is out, and refuses those it was told to.
class WatchedSource final : public vlt::MemorySource {
 public:
  WatchedSource(vlt::MemorySource& inner, uint64_t fail_at, uint64_t fail_count)
      : inner_(inner), fail_at_(fail_at), fail_count_(fail_count) {}

  uint64_t granularity() const override { return inner_.granularity(); }
  bool grows_in_place() const override { return inner_.grows_in_place(); }

  std::byte* reserve(uint64_t bytes) override {
    if (refuses()) return nullptr;
    std::byte* base = inner_.reserve(bytes);
    if (base && !grows_in_place()) out_ += bytes;
    return base;
  }
  bool commit(std::byte* base, uint64_t from, uint64_t to) override {
    if (!grows_in_place()) return inner_.commit(base, from, to);
    if (refuses() || !inner_.commit(base, from, to)) return false;
    out_ += to - from;
    return true;
  }
  bool decommit(std::byte* base, uint64_t from, uint64_t to) override {
    if (refuses() || !inner_.decommit(base, from, to)) return false;
    out_ -= to - from;
    return true;
  }
  void unreserve(std::byte* base, uint64_t bytes) noexcept override {
    out_ = 0;  // an arena has one block
    inner_.unreserve(base, bytes);
  }

  uint64_t out() const { return out_; }
  uint64_t calls() const { return calls_; }

 private:
  bool refuses() {
    ++calls_;
    return fail_at_ != 0 && calls_ >= fail_at_ && calls_ < fail_at_ + fail_count_;
  }

  vlt::MemorySource& inner_;
  const uint64_t fail_at_, fail_count_;
  uint64_t calls_ = 0, out_ = 0;
};

// Counts apart from WatchedSource, so that a block released twice or never shows.
void* counted_allocate(void* context, uint64_t bytes, uint64_t alignment) {
  void* memory = std::aligned_alloc(alignment, bytes);
  if (memory) *static_cast<uint64_t*>(context) += bytes;
  return memory;
}
void counted_release(void* context, void* memory, uint64_t bytes) {
  *static_cast<uint64_t*>(context) -= bytes;
  std::free(memory);
}

}  // namespace

struct shim_arena {
  uint64_t callback_bytes = 0;
  std::unique_ptr<vlt::CallbackMemory> callbacks;
  std::unique_ptr<WatchedSource> source;
  std::unique_ptr<vlt::Arena> arena;
};

void shim_plan(int32_t num_records, const int32_t* first_op, const int32_t* last_op,
               const uint64_t* constant_bytes, const uint64_t* bytes_per_token,
               const uint64_t* bytes_per_sequence, uint64_t alignment, uint64_t typical_tokens,
               uint64_t typical_sequences, int32_t num_batches, const uint64_t* num_tokens,
               const uint64_t* num_sequences, uint64_t* offsets, uint64_t* peaks, uint64_t* bounds,
               double* times) {
  const auto records = records_of(num_records, first_op, last_op, constant_bytes, bytes_per_token,
                                  bytes_per_sequence);
  const auto planning = Clock::now();
  const vlt::LifetimePlan plan(records, alignment, {typical_tokens, typical_sequences});
  times[0] = seconds_since(planning);
  const auto evaluation = Clock::now();
  for (int32_t b = 0; b < num_batches; ++b) {
    const vlt::BatchSize batch{num_tokens[b], num_sequences[b]};
    peaks[b] = plan.place(batch, offsets + int64_t{b} * num_records);
  }
  times[1] = seconds_since(evaluation);
  for (int32_t b = 0; b < num_batches; ++b)
    bounds[b] = vlt::live_bytes_bound(records, alignment, {num_tokens[b], num_sequences[b]});
}

uint64_t shim_most_tokens(int32_t num_records, const int32_t* first_op, const int32_t* last_op,
                          const uint64_t* constant_bytes, const uint64_t* bytes_per_token,
                          const uint64_t* bytes_per_sequence, uint64_t alignment, uint64_t bytes,
                          uint64_t num_sequences) {
  const vlt::LifetimePlan plan(records_of(num_records, first_op, last_op, constant_bytes,
                                          bytes_per_token, bytes_per_sequence),
                               alignment, {128, 1});
  return plan.most_tokens(bytes, num_sequences);
}

shim_arena* shim_arena_create(int32_t source, uint64_t limit, uint64_t fail_at,
                              uint64_t fail_count) {
  auto created = std::make_unique<shim_arena>();
  created->callbacks = std::make_unique<vlt::CallbackMemory>(
      vlt::AllocationCallbacks{counted_allocate, counted_release, &created->callback_bytes});
  vlt::MemorySource& inner = source == SHIM_HOST
                                 ? vlt::host_memory()
                                 : static_cast<vlt::MemorySource&>(*created->callbacks);
  created->source = std::make_unique<WatchedSource>(inner, fail_at, fail_count);
  created->arena = std::make_unique<vlt::Arena>(*created->source, limit);
  return created.release();
}

void* shim_arena_acquire(shim_arena* arena, uint64_t bytes) { return arena->arena->acquire(bytes); }

int32_t shim_arena_reserve(shim_arena* arena, uint64_t bytes) {
  return arena->arena->reserve(bytes) ? 1 : 0;
}

void shim_arena_stats(const shim_arena* arena, shim_stats* stats) {
  const vlt::ArenaStats& s = arena->arena->stats();
  *stats = {s.held_bytes, s.peak_held_bytes,    s.system_allocations,
            s.releases,   arena->source->out(), arena->source->calls()};
}

uint64_t shim_arena_granularity(const shim_arena* arena) { return arena->arena->granularity(); }

uint64_t shim_arena_free(shim_arena* arena) {
  arena->arena.reset();
  const uint64_t left = arena->source->out() + arena->callback_bytes;
  delete arena;
  return left;
}
