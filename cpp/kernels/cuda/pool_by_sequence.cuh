// The pooling kernel whose blocks take one sequence after the other: a short one by a warp, run after
// run; a longer one by all 8 warps, a run each.
#pragma once

#include "kernels/cuda/pool_parts.cuh"

namespace vlt::cuda {

constexpr int kMostWarpRows = 4 * kRunRows;  // of a sequence that a warp takes alone

template <int N>
struct PoolShared {
  float totals[2][kPoolWarps][kLaneColumns * N];   // of the warps; sequences take turns
  float values[kMostSequences][kLaneColumns * N];  // of the sequences
};

template <typename Mode, typename T, int N>
__device__ inline void reduce_run(const PoolPart<T, N>& part, const RowSpan& span, int run,
                                  float (&total)[N]) {
  Chunk<T, N> chunks[kRowsInFlight];
  part.load_run(span, run, chunks);
  part.template add_run<Mode>(span, run, chunks, total);
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
    reduce_run<Mode>(part, span, run, total);
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
    reduce_run<Mode>(part, span, run, total);
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

template <typename T, int N>
__global__ void __launch_bounds__(kPoolThreads, 3)
    pool_by_sequence_kernel(const __grid_constant__ PoolArguments args, PoolGrid grid) {
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

}  // namespace vlt::cuda
