// Pooling: each sequence's states [L, H] reduced to a row.
//
// A block owns one mode, 16 chunks of columns (256 bytes) and up to 8 consecutive sequences; the
// blocks of the same sequences are neighbours, so that whole rows of states are read at about the
// same time. In a warp 16 lanes lie side by side on the columns and 2 below each other on the rows,
// and a lane has 8 rows in flight: a warp reads a run of 16 rows, 4 KB, at once. Every eighth run of
// a sequence is a task; the warps of a block take all its sequences' tasks in turns and wait for
// each other once, when all are done. There is no loop over the batch: blocks start as others end,
// which evens out sequences of different lengths.
//
// Sums: each lane adds up its rows of every eighth run in order, then the two lanes of a column are
// added, then the eight results. That depends on the number of rows alone, whichever way a sequence
// is taken. The error of a sum of L terms grows like that of L / 16 + 1 + 8 of them.
// Bound by memory: T · H elements read once, 8192 tokens of 768 float16 in 3 µs at 4.2 TB/s. A
// multiprocessor holds 3 blocks, each with 32 KB on their way, and 32 KB of sums in shared memory;
// 26 KB on their way at any time are enough.
#include "kernels/cuda/pool_parts.cuh"
#ifdef VLT_KERNEL_VARIANTS
#include "kernels/cuda/pool_by_sequence.cuh"
#endif

namespace vlt::cuda {
namespace {

// Of the tasks, as sums over every eighth run: task t of a sequence is its runs t, t + 8, …
template <int N>
using TaskTotals = float[kMostSequences][kPoolWarps][kLaneColumns * N];

__device__ inline int num_tasks(const RowSpan& span) { return min(span.num_runs(), kPoolWarps); }

// The sequences of a block and their tasks, which are counted through. In shared memory: registers
// are for rows.
class TaskList {
 public:
  // By one warp, whose lane s knows sequence s.
  __device__ void write(const RowSpan& lane_span) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int end = num_tasks(lane_span);
#pragma unroll
    for (int offset = 1; offset < kMostSequences; offset *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, end, offset);
      if (lane >= offset) end += before;
    }
    if (lane >= kMostSequences) return;
    first_row_[lane] = lane_span.first_row;
    begin_[lane] = lane_span.begin;
    count_[lane] = lane_span.count;
    end_[lane] = end;
  }

  __device__ int size() const { return end_[kMostSequences - 1]; }
  // The sequence of a task that exists, by a whole warp: as many as end before it.
  __device__ int sequence_of(int task) const {
    static_assert(kMostSequences < 32);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const bool is_before = lane < kMostSequences && end_[lane] <= task;
    return __popc(__ballot_sync(0xffffffffu, is_before));
  }
  __device__ int first_of(int sequence) const { return sequence == 0 ? 0 : end_[sequence - 1]; }
  __device__ RowSpan span_of(int sequence) const {
    return {first_row_[sequence], begin_[sequence], count_[sequence]};
  }

 private:
  int first_row_[kMostSequences], begin_[kMostSequences], count_[kMostSequences];
  int end_[kMostSequences];  // the first task behind each
};

template <typename Mode, int N>
__device__ inline void start(float (&total)[N]) {
#pragma unroll
  for (int e = 0; e < N; ++e) total[e] = Mode::kIdentity;
}

template <typename Mode, typename T, int N>
__device__ inline void finish(const PoolPart<T, N>& part, float (&total)[N],
                              float (&out)[kLaneColumns * N]) {
  combine_lanes<Mode>(total);
  if (part.lane() >= kLaneColumns) return;
#pragma unroll
  for (int e = 0; e < N; ++e) out[part.lane_column() + e] = total[e];
}

// Every warp its tasks.
template <typename Mode, typename T, int N>
__device__ inline void reduce_tasks(const PoolPart<T, N>& part, const TaskList& tasks,
                                    TaskTotals<N>& totals) {
#pragma unroll 1
  for (int task = static_cast<int>(threadIdx.x) / 32; task < tasks.size(); task += kPoolWarps) {
    const int sequence = tasks.sequence_of(task), first_run = task - tasks.first_of(sequence);
    const RowSpan span = tasks.span_of(sequence);
    float total[N];
    start<Mode>(total);
#pragma unroll 1
    for (int run = first_run; run < span.num_runs(); run += kPoolWarps) {
      Chunk<T, N> chunks[kRowsInFlight];
      part.load_run(span, run, chunks);
      part.template add_run<Mode>(span, run, chunks, total);
    }
    finish<Mode>(part, total, totals[sequence][first_run]);
  }
}

#ifdef VLT_KERNEL_VARIANTS
// The same, asking for the next run before the one that is there is added up.
template <typename Mode, typename T, int N>
__device__ inline void reduce_tasks_ahead(const PoolPart<T, N>& part, const TaskList& tasks,
                                          TaskTotals<N>& totals) {
  const int size = tasks.size();
  int task = static_cast<int>(threadIdx.x) / 32;
  if (task >= size) return;
  int sequence = tasks.sequence_of(task), first_run = task - tasks.first_of(sequence);
  int run = first_run;
  RowSpan span = tasks.span_of(sequence);
  Chunk<T, N> chunks[kRowsInFlight], next_chunks[kRowsInFlight];
  part.load_run(span, run, chunks);
  float total[N];
  start<Mode>(total);
#pragma unroll 1
  while (task < size) {
    const RowSpan own = span;
    const int own_run = run, own_task = task;
    float(&out)[kLaneColumns * N] = totals[sequence][first_run];
    run += kPoolWarps;
    if (run >= span.num_runs()) {
      task += kPoolWarps;
      if (task < size) {
        sequence = tasks.sequence_of(task);
        run = first_run = task - tasks.first_of(sequence);
        span = tasks.span_of(sequence);
      }
    }
    if (task < size) part.load_run(span, run, next_chunks);
    part.template add_run<Mode>(own, own_run, chunks, total);
    if (task != own_task) {
      finish<Mode>(part, total, out);
      start<Mode>(total);
    }
#pragma unroll
    for (int u = 0; u < kRowsInFlight; ++u) chunks[u] = next_chunks[u];
  }
}
#endif

// ---- The kernel

template <typename Mode, bool ahead, typename T, int N>
__device__ inline void pool_group(const PoolArguments& args, const PoolPart<T, N>& part,
                                  const TaskList& tasks, int first, int count,
                                  TaskTotals<N>& totals) {
#ifdef VLT_KERNEL_VARIANTS
  if constexpr (ahead)
    reduce_tasks_ahead<Mode>(part, tasks, totals);
  else
#endif
    reduce_tasks<Mode>(part, tasks, totals);
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp >= count) return;
  const RowSpan own = tasks.span_of(warp);
  const float divisor = own.divisor(part.mode);
  part.store(args, first + warp, [&](int j) {
    if (own.count == 0) return 0.0f;
    float of_tasks[kPoolWarps];
#pragma unroll
    for (int t = 0; t < kPoolWarps; ++t)
      of_tasks[t] = t < num_tasks(own) ? totals[warp][t][j] : Mode::kIdentity;
    float all = of_tasks[0];
#pragma unroll
    for (int t = 1; t < kPoolWarps; ++t) all = Mode::combine(all, of_tasks[t]);
    return all / divisor;
  });
}

// Blocks that a multiprocessor is to hold.
constexpr int pool_blocks(bool ahead) { return ahead ? 2 : 3; }

template <typename T, int N, bool ahead>
__global__ void __launch_bounds__(kPoolThreads, pool_blocks(ahead))
    pool_kernel(const __grid_constant__ PoolArguments args, PoolGrid grid) {
  __shared__ TaskTotals<N> totals;
  __shared__ TaskList tasks;
  wait_for_previous();
  const BatchHeader header = *args.header;
  const void* states = args.indirect_states ? *args.indirect_states : args.states;
  const int first = static_cast<int>(blockIdx.x) / grid.num_parts * grid.group;
  const int count = min(args.state->num_sequences - first, grid.group);
  if (count <= 0 || !states) return;

  const PoolPart<T, N> part(args, states, grid.num_parts);
  if (threadIdx.x < 32) {
    RowSpan span(0, 0, 0);
    if (part.lane() < count) span = RowSpan(header, first + part.lane(), part.mode);
    tasks.write(span);
  }
  __syncthreads();
  if (part.takes_largest())
    pool_group<Largest, ahead>(args, part, tasks, first, count, totals);
  else
    pool_group<Sum, ahead>(args, part, tasks, first, count, totals);
}

// Blocks are to fill the device `waves` times: with fewer sequences each, those that end early make
// room for others and long sequences matter less; with more, the chain of loads that leads to a
// block's rows is waited for less often.
PoolGrid pool_grid(const PoolArguments& args, int columns, int64_t held, int waves) {
  PoolGrid grid;
  grid.num_parts = (args.cols + columns - 1) / columns * args.num_modes;
  const int64_t tasks = int64_t{args.max_sequences} * grid.num_parts, blocks = held * waves;
  grid.group =
      static_cast<int>(std::clamp<int64_t>((tasks + blocks - 1) / blocks, 1, kMostSequences));
  return grid;
}

template <int N, typename Kernel>
void launch_pool_kernel(Kernel kernel, const PoolArguments& args, const DeviceTraits& device,
                        cudaStream_t stream, int blocks_held, int waves) {
  const int64_t held = int64_t{device.num_multiprocessors} * blocks_held;
  const PoolGrid grid = pool_grid(args, kLaneColumns * N, held, waves);
  const int num_groups = std::max(1, (args.max_sequences + grid.group - 1) / grid.group);
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(num_groups * grid.num_parts));
  shape.block = dim3(kPoolThreads);
  launch(kernel, shape, device.overlap, stream, args, grid);
}

template <typename T>
bool is_chunked(const PoolArguments& args) {
  return args.indirect_states ? args.cols % kChunkElements<T> == 0
                              : made_of_chunks<T>(args.states, args.states_stride, args.cols);
}

constexpr int kWaves = 2;

}  // namespace

void pool(const PoolArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kHeld = pool_blocks(false);
    if (is_chunked<T>(args))
      launch_pool_kernel<kChunkElements<T>>(pool_kernel<T, kChunkElements<T>, false>, args, device,
                                            stream, kHeld, kWaves);
    else
      launch_pool_kernel<1>(pool_kernel<T, 1, false>, args, device, stream, kHeld, kWaves);
  });
}

#ifdef VLT_KERNEL_VARIANTS
bool pool_variant(const PoolArguments& args, const DeviceTraits& device, cudaStream_t stream,
                  int variant) {
  constexpr int kVariants = 9, kColumns = kChunkElements<half>;
  if (args.dtype != DType::kFloat16 || !is_chunked<half>(args)) return false;
  if (variant < 0 || variant >= kVariants) return false;
  const int waves = 1 << variant % 3;
  if (variant < 3)
    launch_pool_kernel<kColumns>(pool_by_sequence_kernel<half, kColumns>, args, device, stream, 3,
                                 waves);
  else if (variant < 6)
    launch_pool_kernel<kColumns>(pool_kernel<half, kColumns, false>, args, device, stream,
                                 pool_blocks(false), waves);
  else
    launch_pool_kernel<kColumns>(pool_kernel<half, kColumns, true>, args, device, stream,
                                 pool_blocks(true), waves);
  return true;
}
#endif

}  // namespace vlt::cuda
