// Pooling: each sequence's states [L, H] reduced to a row.
//
// A block owns one mode, 16 chunks of columns (256 bytes) and up to 8 consecutive sequences; the
// blocks of the same sequences are neighbours, so that whole rows of states are read at about the
// same time. In a warp 16 lanes lie side by side on the columns and 2 below each other on the rows,
// and a lane has 8 rows in flight: a warp reads a run of 16 rows, 4 KB, at once. A short sequence
// takes a warp, run after run; a longer one all 8 warps, a run each. There is no loop over the
// batch: blocks start as others end, which evens out sequences of different lengths.
//
// Sums: each lane adds up its rows of every eighth run in order, then the two lanes of a column are
// added, then the eight results. That depends on the number of rows alone, whichever way a sequence
// is taken. The error of a sum of L terms grows like that of L / 16 + 1 + 8 of them.
// Bound by memory: T · H elements read once, 8192 tokens of 768 float16 in 3 µs at 4.2 TB/s. A
// multiprocessor holds 3 blocks of 32 KB each; 26 KB on their way at any time are enough.
#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {
namespace {

constexpr int kPoolWarps = 8;
constexpr int kPoolThreads = kPoolWarps * 32;
constexpr int kPoolBlocks = 3;    // that a multiprocessor is to hold
constexpr int kLaneColumns = 16;  // lanes side by side: chunks of columns that a block owns
constexpr int kLaneRows = 2;      // lanes below each other
constexpr int kRowsInFlight = 8;  // of a lane
constexpr int kRunRows = kLaneRows * kRowsInFlight;
constexpr int kMostSequences = kPoolWarps;   // of a block: when all are short, a warp takes each
constexpr int kMostWarpRows = 4 * kRunRows;  // of a sequence that a warp takes alone

// ---- What a mode does with a column

struct Sum {
  static constexpr float kIdentity = 0;
  // With a weight of 1 this is total + x to the bit.
  __device__ static float add(float total, float x, float weight) { return fmaf(weight, x, total); }
  __device__ static float combine(float a, float b) { return a + b; }
};

// A NaN stays: nothing is larger. Of a single row it is the row itself, to the bit.
struct Largest {
  static constexpr float kIdentity = -INFINITY;
  __device__ static float add(float total, float x, float) { return combine(total, x); }
  __device__ static float combine(float a, float b) { return b > a || isnan(b) ? b : a; }
};

// The rows that a mode reduces.
struct RowSpan {
  int first_row = 0;  // of the matrix
  int begin = 0;      // the same row, counted in the sequence
  int count = 0;

  __device__ RowSpan(const BatchHeader& header, int s, PoolingMode mode) {
    const int start = __ldg(header.sequence_starts + s);
    const int length = __ldg(header.sequence_starts + s + 1) - start;
    begin = header.pooling_starts ? __ldg(header.pooling_starts + s) : 0;
    count = max(length - begin, 0);
    if (mode == PoolingMode::kLastToken) begin = max(begin, length - 1);
    if (mode == PoolingMode::kLastToken || mode == PoolingMode::kCls) count = min(count, 1);
    first_row = start + begin;
  }

  __device__ RowSpan(int first, int begin_in_sequence, int rows)
      : first_row(first), begin(begin_in_sequence), count(rows) {}
  __device__ RowSpan of_lane(int lane) const {
    return {__shfl_sync(0xffffffffu, first_row, lane), __shfl_sync(0xffffffffu, begin, lane),
            __shfl_sync(0xffffffffu, count, lane)};
  }

  __device__ int num_runs() const { return (count + kRunRows - 1) / kRunRows; }

  // What a sum is divided by.
  __device__ float divisor(PoolingMode mode) const {
    if (mode == PoolingMode::kMean) return static_cast<float>(count);
    if (mode == PoolingMode::kMeanSqrtLen) return sqrtf(static_cast<float>(count));
    if (mode == PoolingMode::kWeightedMean)  // (begin + 1) + … + (begin + count), exactly
      return static_cast<float>(int64_t{count} * (2 * int64_t{begin} + count + 1) / 2);
    return 1;
  }
};

// One part of the states: a mode and the columns that a block owns.
template <typename T, int N>
struct PoolPart {
  const T* states;  // [T, …] from this lane's column on
  int stride;
  bool aligned;
  bool lane_exists;  // this lane's columns do
  PoolingMode mode;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int lane_column() { return lane() % kLaneColumns * N; }

  // Adds this lane's rows of a run to the total.
  template <typename Mode>
  __device__ void reduce_run(const RowSpan& span, int run, float (&total)[N]) const {
    const int first = run * kRunRows + lane() / kLaneColumns;
    const int left = lane_exists ? span.count - first : 0;
    const T* row = states + int64_t{span.first_row + first} * stride;
    const int64_t step = int64_t{kLaneRows} * stride;
    const bool is_weighted = mode == PoolingMode::kWeightedMean;  // by 1, 2, 3, …
    const float weight_step = is_weighted ? kLaneRows : 0;
    float weight = is_weighted ? static_cast<float>(span.begin + first + 1) : 1.0f;
    const auto add = [&](const float(&x)[N]) {
#pragma unroll
      for (int e = 0; e < N; ++e) total[e] = Mode::add(total[e], x[e], weight);
      weight += weight_step;
    };
    float x[N];
    if (aligned) {
      Chunk<T, N> chunks[kRowsInFlight];
#pragma unroll
      for (int u = 0; u < kRowsInFlight; ++u, row += step)
        if (u * kLaneRows < left) chunks[u] = load_once<T, N>(row);
#pragma unroll
      for (int u = 0; u < kRowsInFlight; ++u) {
        if (u * kLaneRows >= left) break;
        unpack<T>(chunks[u], x);
        add(x);
      }
    } else {
#pragma unroll 1
      for (int u = 0; u < kRowsInFlight && u * kLaneRows < left; ++u, row += step) {
#pragma unroll
        for (int e = 0; e < N; ++e) x[e] = to_float(row[e]);
        add(x);
      }
    }
  }
};

template <int N>
struct PoolShared {
  float totals[2][kPoolWarps][kLaneColumns * N];   // of the warps; sequences take turns
  float values[kMostSequences][kLaneColumns * N];  // of the sequences
};

// Combines the lanes that lie below each other; the first kLaneColumns have the result.
template <typename Mode, int N>
__device__ inline void combine_lanes(float (&total)[N]) {
#pragma unroll
  for (int e = 0; e < N; ++e)
    total[e] = Mode::combine(total[e], __shfl_xor_sync(0xffffffffu, total[e], kLaneColumns));
}

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

  const int part_index = static_cast<int>(blockIdx.x) % grid.num_parts;
  const int mode_parts = grid.num_parts / args.num_modes;
  const int mode = part_index / mode_parts;
  const int column = part_index % mode_parts * kLaneColumns * N;
  const int num_columns = min(args.cols - column, kLaneColumns * N);
  PoolPart<T, N> part;
  part.stride = args.indirect_states ? args.cols : static_cast<int>(args.states_stride);
  part.states =
      in_global_memory(static_cast<const T*>(states)) + column + PoolPart<T, N>::lane_column();
  part.aligned = N == 1 || is_aligned(states);
  part.lane_exists = part.lane_column() < num_columns;
  part.mode = args.modes[mode];

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  RowSpan span(0, 0, 0);
  if (lane < count) span = RowSpan(header, first + lane, part.mode);
  // Alone in its block, a sequence need not leave warps idle.
  const int most_warp_rows = min(grid.group * kRunRows, kMostWarpRows);
  if (part.mode == PoolingMode::kCls || part.mode == PoolingMode::kLastToken ||
      part.mode == PoolingMode::kMax)
    pool_sequences<Largest>(part, span, count, most_warp_rows, shared);
  else
    pool_sequences<Sum>(part, span, count, most_warp_rows, shared);
  __syncthreads();

  // From here on warp w has sequence w, and of its values each lane the same ones throughout.
  const RowSpan own = span.of_lane(warp);
  const float divisor = own.divisor(part.mode);
  void* out = args.indirect_out ? *args.indirect_out : args.out;
  if (warp < count && out) {
    const int64_t stride = args.indirect_out ? args.cols * args.num_modes : args.out_stride;
    const int64_t row = (first + warp) * stride + int64_t{mode} * args.cols + column;
    for (int j = lane; j < num_columns; j += 32)
      store_element(in_global_memory(out), args.out_dtype, row + j,
                    own.count == 0 ? 0.0f : shared.values[warp][j] / divisor);
  }
}

// A multiprocessor should get as many blocks as it holds; beyond that, the more sequences a block
// has, the less often the chain of loads that leads to its rows is waited for. (Measured: 65,536
// rows of 384 in 15.4 µs with 4 sequences a block, 17.7 µs with 1, 17.9 µs with 8.)
int sequences_of_block(int64_t num_tasks, const DeviceTraits& device) {
  const int64_t enough = int64_t{device.num_multiprocessors} * kPoolBlocks;
  return static_cast<int>(std::clamp<int64_t>(num_tasks / enough, 1, kMostSequences));
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
