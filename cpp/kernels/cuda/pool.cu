// Pooling: each sequence's states [L, H] reduced to a row.
//
// A block owns one mode, 16 chunks of columns (256 bytes) and up to 8 consecutive sequences; the
// blocks of the same sequences are neighbours, so that whole rows of states are read at about the
// same time. In a warp 16 lanes lie side by side on the columns and 2 below each other on the rows,
// and a lane has 8 rows in flight: a warp reads a run of 16 rows, 4 KB, at once. A short sequence
// takes a warp, run after run; a longer one all 8 warps, a run each. There is no loop over the
// batch: in a large one, blocks start as others end, which evens out sequences of different lengths.
//
// Sums: each lane adds up its rows of every eighth run in order, then the two lanes of a column are
// added, then the eight results. That depends on the number of rows alone, whichever way a sequence
// is taken. The error of a sum of L terms grows like that of L / 16 + 1 + 8 of them.
//
// Bound by memory: T · H elements read once, 65,536 tokens of 768 float16 in 33.6 µs at the 3.00 TB/s
// of an H100's copy. Measured: 37.6 µs for sequences of 128, 42.7 µs for 1 … 512, 64 on average. A
// multiprocessor holds 3 blocks with 32 KB each on their way; 3.00 TB/s for 0.8 µs over 132 of them
// are 18 KB. That all warps wait for each other after a long sequence costs little: warps that took
// runs of any sequence in turns, and waited once, needed 38.3 and 41.1 µs, and 32 KB of shared memory
// instead of 12.
#include "kernels/cuda/pool_parts.cuh"

namespace vlt::cuda {
namespace {

constexpr int kPoolBlocks = 3;               // that a multiprocessor is to hold
constexpr int kMostSequences = kPoolWarps;   // of a block: when all are short, a warp takes each
constexpr int kMostWarpRows = 4 * kRunRows;  // of a sequence that a warp takes alone

template <int N>
struct PoolShared {
  float totals[2][kPoolWarps][kLaneColumns * N];   // of the warps; sequences take turns
  float values[kMostSequences][kLaneColumns * N];  // of the sequences
};

// The runs of a sequence one after the other, by one warp, as the warps of a block would take them.
template <typename Mode, typename T, int N>
__device__ inline void pool_by_warp(const PoolPart<T, N>& part, const RowSpan& span,
                                    float (&values)[kLaneColumns * N]) {
  float* own = values + part.lane_column();
#pragma unroll 1
  for (int run = 0; run == 0 || run < span.num_runs(); ++run) {
    float total[N];
#pragma unroll
    for (int e = 0; e < N; ++e) total[e] = Mode::kIdentity;
    part.template reduce_run<Mode>(span, run, total);
    combine_lanes<Mode>(total);
    if (part.lane() >= kLaneColumns) continue;
#pragma unroll
    for (int e = 0; e < N; ++e) own[e] = run == 0 ? total[e] : Mode::combine(own[e], total[e]);
  }
}

// By all threads of the block, a run each in turn, whose totals meet in `totals`.
template <typename Mode, typename T, int N>
__device__ inline void pool_by_block(const PoolPart<T, N>& part, const RowSpan& span,
                                     float (&totals)[kPoolWarps][kLaneColumns * N],
                                     float (&values)[kLaneColumns * N]) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  float total[N];
#pragma unroll
  for (int e = 0; e < N; ++e) total[e] = Mode::kIdentity;
#pragma unroll 1
  for (int run = warp; run < span.num_runs(); run += kPoolWarps)
    part.template reduce_run<Mode>(span, run, total);
  combine_lanes<Mode>(total);
  if (part.lane() < kLaneColumns) {
#pragma unroll
    for (int e = 0; e < N; ++e) totals[warp][part.lane_column() + e] = total[e];
  }
  __syncthreads();
  if (thread >= kLaneColumns * N) return;
  float all = totals[0][thread];
#pragma unroll
  for (int w = 1; w < kPoolWarps; ++w) all = Mode::combine(all, totals[w][thread]);
  values[thread] = all;
}

// Leaves what the sequences add up to in `values`: the short ones by a warp each, then the others.
template <typename Mode, typename T, int N>
__device__ inline void pool_sequences(const PoolPart<T, N>& part, const RowSpan& lane_span,
                                      int count, int most_warp_rows, PoolShared<N>& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  unsigned longer = __ballot_sync(0xffffffffu, lane_span.count > most_warp_rows);
  if (warp < count && (longer >> warp & 1) == 0)
    pool_by_warp<Mode>(part, lane_span.of_lane(warp), shared.values[warp]);
  for (int turn = 0; longer != 0; longer &= longer - 1, turn ^= 1) {
    const int s = __ffs(static_cast<int>(longer)) - 1;
    pool_by_block<Mode>(part, lane_span.of_lane(s), shared.totals[turn], shared.values[s]);
  }
}

// ---- The kernel

struct PoolGrid {
  int num_parts;  // blocks that share the same sequences: modes × parts of the columns
  int group;      // sequences of a block
};

template <typename T, int N>
__global__ void __launch_bounds__(kPoolThreads, kPoolBlocks)
    pool_kernel(const __grid_constant__ PoolArguments args, PoolGrid grid) {
  __shared__ PoolShared<N> shared;
  wait_for_previous();
  const BatchHeader header = *args.header;
  const void* states = args.indirect_states ? *args.indirect_states : args.states;
  const int first = static_cast<int>(blockIdx.x) / grid.num_parts * grid.group;
  const int count = min(args.state->num_sequences - first, grid.group);
  if (count <= 0 || !states) return;

  const PoolPart<T, N> part(args, states, grid.num_parts);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  RowSpan span(0, 0, 0);
  if (lane < count) span = RowSpan(header, first + lane, part.mode);
  // Alone in its block, a sequence need not leave warps idle.
  const int most_warp_rows = min(grid.group * kRunRows, kMostWarpRows);
  if (part.takes_largest())
    pool_sequences<Largest>(part, span, count, most_warp_rows, shared);
  else
    pool_sequences<Sum>(part, span, count, most_warp_rows, shared);
  __syncthreads();

  // From here on warp w has sequence w, and of its values each lane the same ones throughout.
  const RowSpan own = span.of_lane(warp);
  const float divisor = own.divisor(part.mode);
  if (warp < count)
    part.store(args, first + warp,
               [&](int j) { return own.count == 0 ? 0.0f : shared.values[warp][j] / divisor; });
}

// The more sequences a block has, the less often the chain of loads that leads to its rows is waited
// for; but a multiprocessor should get as many blocks as it holds. Rounded up: a few blocks more than
// the device holds at once would take as long as twice as many.
int sequences_of_block(int64_t num_tasks, const DeviceTraits& device) {
  const int64_t held = int64_t{device.num_multiprocessors} * kPoolBlocks;
  return static_cast<int>(std::clamp<int64_t>((num_tasks + held - 1) / held, 1, kMostSequences));
}

template <typename T, int N>
void launch_pool_kernel(const PoolArguments& args, const DeviceTraits& device,
                        cudaStream_t stream) {
  constexpr int kColumns = kLaneColumns * N;
  PoolGrid grid;
  grid.num_parts = (args.cols + kColumns - 1) / kColumns * args.num_modes;
  grid.group = sequences_of_block(int64_t{args.max_sequences} * grid.num_parts, device);
  const int num_groups = std::max(1, (args.max_sequences + grid.group - 1) / grid.group);
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(num_groups * grid.num_parts));
  shape.block = dim3(kPoolThreads);
  launch(pool_kernel<T, N>, shape, device.overlap, stream, args, grid);
}

}  // namespace

void pool(const PoolArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool chunked = args.indirect_states
                             ? args.cols % kChunkElements<T> == 0
                             : made_of_chunks<T>(args.states, args.states_stride, args.cols);
    if (chunked)
      launch_pool_kernel<T, kChunkElements<T>>(args, device, stream);
    else
      launch_pool_kernel<T, 1>(args, device, stream);
  });
}

}  // namespace vlt::cuda
