// Checks a batch and lists the attention's work, once for all layers.
//
// One block of 1024 threads: first pass, every start is read once, checked, and the sequences are
// counted by class (short ones) and by length (long ones); then the counts become positions; second
// pass, each sequence writes its items. Starts stay in shared memory between the passes; of a larger
// batch the rest is read again from the L2 cache.
// Some thousand sequences take a chain of latencies: header, starts, two passes, about 2 µs.
#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {
namespace {

constexpr int kPlanThreads = 1024;
constexpr int kCachedStarts = 11 * 1024;  // 44 KB: with the counters within the usual 48 KB
// Long sequences by length, the longest first; two for each lane of the warp that adds up. Blocks take
// items round by round, to and fro, and so get as much work each only as far as this sorts.
constexpr int kLongBuckets = 64;
constexpr unsigned kAllLanes = 0xffffffffu;

struct PlanCounters {
  int short_count[kNumShortClasses];
  int long_count[kLongBuckets];  // of items; then where the bucket's next item goes
  int short_next[kNumShortClasses];
  int num_long_items;
  unsigned long long first_error;  // the smallest error_key()
};

constexpr unsigned long long kNoError = ~0ull;

// Orders errors by sequence; a sequence has at most one. The check of the first start comes before
// all sequences, that of the last one behind them, and the chosen tokens come last of all.
__device__ inline unsigned long long error_key(int64_t sequence) {
  return static_cast<unsigned long long>(sequence + 1);
}

struct Found {
  InputError::Kind kind = InputError::kNone;
  int32_t index = 0;
  int32_t value = 0;
  unsigned long long key = kNoError;
};

__device__ inline int short_class(int length) {
  return length <= 16 ? 0 : length <= 32 ? 1 : length <= 64 ? 2 : 3;
}

// The starts of a batch, of which the first ones lie in shared memory.
struct Starts {
  const int32_t* global;
  const int32_t* shared;
  int num_shared;

  __device__ int operator[](int i) const { return i < num_shared ? shared[i] : __ldg(global + i); }
};

struct Planner {
  PlanArguments args;
  BatchHeader header;
  Starts starts;

  __device__ Found check_sequence(int s, int begin, int end) const {
    const unsigned length = static_cast<unsigned>(end) - static_cast<unsigned>(begin);
    if (end < begin) return {InputError::kStartsNotAscending, s, end, error_key(s)};
    if (length > static_cast<unsigned>(args.max_length))
      return {InputError::kTooLong, s, static_cast<int32_t>(length), error_key(s)};
    const int skipped = header.pooling_starts ? __ldg(header.pooling_starts + s) : 0;
    if (skipped < 0 || skipped > static_cast<int>(length))
      return {InputError::kPoolingStart, s, skipped, error_key(s)};
    return {};
  }

  __device__ Found check_ends() const {
    const int first = starts[0], last = starts[header.num_sequences];
    if (first != 0) return {InputError::kFirstStartNotZero, 0, first, error_key(-1)};
    if (last != header.num_tokens)
      return {InputError::kLastStartNotTokens, header.num_sequences, last,
              error_key(header.num_sequences)};
    return {};
  }

  // This thread's first chosen token that is not in the batch, or not behind the one before.
  __device__ Found check_chosen() const {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < header.num_chosen; i += kPlanThreads) {
      const int token = __ldg(header.chosen_tokens + i);
      const int before = i > 0 ? __ldg(header.chosen_tokens + i - 1) : -1;
      if (token <= before || token >= header.num_tokens)
        return {InputError::kChosenToken, static_cast<int32_t>(i), token,
                error_key(int64_t{header.num_sequences} + 1 + i)};
    }
    return {};
  }

  __device__ int num_tiles(int length) const {
    return (length + args.query_tile - 1) / args.query_tile;
  }
  __device__ int long_bucket(int length) const {
    return (args.max_length - length) / ((args.max_length + kLongBuckets - 1) / kLongBuckets);
  }

  // Checks and counts this thread's sequences; returns its first error.
  __device__ Found count(PlanCounters& counters) const {
    Found error;
    int short_count[kNumShortClasses] = {};
    for (int64_t i = threadIdx.x; i < header.num_sequences; i += kPlanThreads) {
      const int s = static_cast<int>(i);
      const int begin = starts[s], end = starts[s + 1];
      const Found found = check_sequence(s, begin, end);
      if (found.kind != InputError::kNone) {
        if (error.kind == InputError::kNone) error = found;
        continue;
      }
      const int length = end - begin;
      if (length > kShortLength) {
        atomicAdd(&counters.long_count[long_bucket(length)], num_tiles(length));
      } else if (length > 0) {
#pragma unroll
        for (int c = 0; c < kNumShortClasses; ++c) short_count[c] += short_class(length) == c;
      }
    }
#pragma unroll
    for (int c = 0; c < kNumShortClasses; ++c) {
      const int in_warp = __reduce_add_sync(kAllLanes, short_count[c]);
      if (threadIdx.x % 32 == 0 && in_warp > 0) atomicAdd(&counters.short_count[c], in_warp);
    }
    return error;
  }

  // Only for a batch without error.
  __device__ void write_items(PlanCounters& counters) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int64_t base = 0; base < header.num_sequences; base += kPlanThreads) {
      const int64_t s = base + threadIdx.x;
      int begin = 0, length = 0;
      if (s < header.num_sequences) {
        begin = starts[static_cast<int>(s)];
        length = starts[static_cast<int>(s) + 1] - begin;
      }
      const bool is_short = length > 0 && length <= kShortLength;
      // One lane of each class takes places for all of the warp's sequences of that class.
      const int own_class = is_short ? short_class(length) : kNumShortClasses;
      const unsigned same = __match_any_sync(kAllLanes, own_class);
      const int leader = __ffs(static_cast<int>(same)) - 1;
      int place = 0;
      if (is_short && lane == leader)
        place = atomicAdd(&counters.short_next[own_class], __popc(same));
      place = __shfl_sync(kAllLanes, place, leader) + __popc(same & ((1u << lane) - 1));
      if (is_short) args.short_items[place] = {begin, length, 0, length};
      if (length > kShortLength) write_long_items(counters, begin, length);
    }
  }

  __device__ void write_long_items(PlanCounters& counters, int begin, int length) const {
    const int tiles = num_tiles(length);
    const int place = atomicAdd(&counters.long_count[long_bucket(length)], tiles);
    const int groups = (length + kQueryGroup - 1) / kQueryGroup;
    const int each = groups / tiles, more = groups % tiles;  // the first `more` have one more
    int query = 0;
    for (int i = 0; i < tiles; ++i) {
      const int end = min(length, query + (i < more ? each + 1 : each) * kQueryGroup);
      args.long_items[place + i] = {begin, length, query, end};
      query = end;
    }
  }
};

// Turns counts into first positions; by the first warp.
__device__ inline void add_up(PlanCounters& counters, BatchState* state) {
  const int lane = static_cast<int>(threadIdx.x);
  const int first = counters.long_count[2 * lane], second = counters.long_count[2 * lane + 1];
  int sum = first + second;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int below = __shfl_up_sync(kAllLanes, sum, offset);
    if (lane >= offset) sum += below;
  }
  counters.long_count[2 * lane] = sum - second - first;
  counters.long_count[2 * lane + 1] = sum - second;
  if (lane == 31) counters.num_long_items = sum;
  if (lane != 0) return;
  int place = 0;
  for (int c = 0; c < kNumShortClasses; ++c) {
    state->short_begin[c] = counters.short_next[c] = place;
    place += counters.short_count[c];
  }
  state->short_begin[kNumShortClasses] = place;
}

// Shared memory: the counters, then num_cached starts.
__global__ void __launch_bounds__(kPlanThreads, 1) plan_kernel(PlanArguments args, int num_cached) {
  __shared__ PlanCounters counters;
  extern __shared__ int32_t cache[];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kLongBuckets) counters.long_count[thread] = 0;
  if (thread < kNumShortClasses) counters.short_count[thread] = 0;
  if (thread == 0) counters.first_error = kNoError;
  wait_for_previous();

  const BatchHeader header = *args.header;
  const bool fits = header.num_tokens >= 0 && header.num_tokens <= args.max_tokens &&
                    header.num_sequences >= 0 && header.num_sequences <= args.max_sequences &&
                    header.num_chosen >= 0 && header.num_chosen <= args.max_chosen;
  const int num_shared = fits ? min(header.num_sequences + 1, num_cached) : 0;
#pragma unroll 4
  for (int i = thread; i < num_shared; i += kPlanThreads)
    cache[i] = __ldg(header.sequence_starts + i);
  __syncthreads();

  const Planner planner{args, header, {header.sequence_starts, cache, num_shared}};
  Found error;
  if (fits) {
    error = planner.count(counters);
    // A thread's own sequences lie between the two ends.
    if (thread == 0) {
      const Found ends = planner.check_ends();
      if (ends.key < error.key) error = ends;
    }
    if (error.key == kNoError) error = planner.check_chosen();
  } else if (thread == 0) {  // the caller's mistake, not its user's: no kind says more
    error = {InputError::kLastStartNotTokens, header.num_sequences, header.num_tokens, 0};
  }
  if (error.key != kNoError) atomicMin(&counters.first_error, error.key);
  __syncthreads();

  const bool valid = counters.first_error == kNoError;
  if (!valid && error.key == counters.first_error)
    report(args.error, error.kind, error.index, error.value);
  if (!valid && thread == 0) *args.state = BatchState{};
  if (!valid) return;
  if (thread < 32) add_up(counters, args.state);
  __syncthreads();
  if (thread == 0) {
    args.state->num_tokens = header.num_tokens;
    args.state->num_sequences = header.num_sequences;
    args.state->num_chosen = header.num_chosen;
    args.state->num_long_items = counters.num_long_items;
  }
  planner.write_items(counters);
}

}  // namespace

void plan_batch(const PlanArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  const int num_cached =
      static_cast<int>(std::min<int64_t>(int64_t{args.max_sequences} + 1, kCachedStarts));
  LaunchShape shape;
  shape.grid = dim3(1);
  shape.block = dim3(kPlanThreads);
  shape.shared_bytes = static_cast<size_t>(num_cached) * sizeof(int32_t);
  launch(plan_kernel, shape, device.overlap, stream, args, num_cached);
}

}  // namespace vlt::cuda
