// What a block of the pooling kernel owns: a mode, columns, and of each sequence a span of rows, which
// its warps reduce in runs.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {

constexpr int kPoolWarps = 8;
constexpr int kPoolThreads = kPoolWarps * 32;
constexpr int kLaneColumns = 16;  // lanes side by side: chunks of columns that a block owns
constexpr int kLaneRows = 2;      // lanes below each other
constexpr int kRowsInFlight = 8;  // of a lane
constexpr int kRunRows = kLaneRows * kRowsInFlight;

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
  int mode_number;
  int column;  // the first of the block

  __device__ PoolPart(const PoolArguments& args, const void* rows, int num_parts) {
    const int part = static_cast<int>(blockIdx.x) % num_parts;
    const int mode_parts = num_parts / args.num_modes;
    mode_number = part / mode_parts;
    mode = args.modes[mode_number];
    column = part % mode_parts * kLaneColumns * N;
    stride = args.indirect_states ? args.cols : static_cast<int>(args.states_stride);
    states = in_global_memory(static_cast<const T*>(rows)) + column + lane_column();
    aligned = N == 1 || is_aligned(rows);
    lane_exists = lane_column() < args.cols - column;
  }

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int lane_column() { return lane() % kLaneColumns * N; }
  __device__ bool takes_largest() const {
    return mode == PoolingMode::kCls || mode == PoolingMode::kLastToken ||
           mode == PoolingMode::kMax;
  }

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

  // Stores a sequence's columns: each lane's from a function of their number in the block.
  template <typename Value>
  __device__ void store(const PoolArguments& args, int sequence, const Value& value) const {
    void* out = args.indirect_out ? *args.indirect_out : args.out;
    if (!out) return;
    const int64_t out_stride = args.indirect_out ? args.cols * args.num_modes : args.out_stride;
    const int64_t first = sequence * out_stride + int64_t{mode_number} * args.cols + column;
    const int num_columns = min(args.cols - column, kLaneColumns * N);
    for (int j = lane(); j < num_columns; j += 32)
      store_element(in_global_memory(out), args.out_dtype, first + j, value(j));
  }
};

// Combines the lanes that lie below each other; the first kLaneColumns have the result.
template <typename Mode, int N>
__device__ inline void combine_lanes(float (&total)[N]) {
#pragma unroll
  for (int e = 0; e < N; ++e)
    total[e] = Mode::combine(total[e], __shfl_xor_sync(0xffffffffu, total[e], kLaneColumns));
}

}  // namespace vlt::cuda
