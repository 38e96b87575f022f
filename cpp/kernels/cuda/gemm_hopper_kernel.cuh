// out [M, N] = activation(in [M, K] · weight [N, K]ᵀ + bias), or + residual, for sm_90a.
//
// A block is one warpgroup that copies and two that multiply, and stays for many tiles. Stages of 64
// columns of K go round a ring of shared memory in the order of the block's tiles: the loading
// thread waits for `empty` and fills, a multiplying group waits for `full`, issues its products,
// and releases the stage before. A group's tile ends in its staging buffer: a serving thread brings
// bias and residual (`ready`), the group puts its results in place (`written`), the thread stores.
// Each group owns every second tile, so that one's epilogue runs under the other's products. A block
// of small tiles has one such group: where few rows make few tiles, what counts is how soon it runs.
//
// Nothing of the first tile waits for M: its weights are on their way while the kernel before drains.
//
// Of many rows two blocks form a cluster: their tiles have the same columns, and each brings half of
// the weights to both. A product by itself is about as fast, but a large batch runs at the card's limit
// of power, and what is not moved from the L2 cache is left for products: see BENCHMARKS.md. Clusters
// of four save more, but only 120 of 132 multiprocessors can be in one.
//
// Tiles of 128 × 256, half for each group, so that nothing hides their epilogue, were measured on an
// H200 against 128 × 128, at the shapes of the layers of MiniLM-L6, BERT-base and BERT-large: from
// M = 4096 on, 29 % slower in the geometric mean at K = 384, 10 % at K = 768 and 1024, the same at
// K = 4096, and at best 3 % faster.
//
// Each element is one float32 sum over k ascending, whatever the tile. Bound: 2·M·N·K operations;
// below K ≈ 400, the 2·M·(K + N) bytes of in and out.
#pragma once

#include "kernels/cuda/gemm_hopper_epilogue.cuh"
#include "kernels/cuda/wgmma.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "gemm_hopper needs -gencode arch=compute_90a,code=sm_90a"
#endif

namespace vlt::cuda::hopper {

// `bytes` in one piece, a multiple of 16 as both addresses are.
__device__ inline void load_bytes(uint32_t shared, const void* global, uint32_t bytes,
                                  uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared),
      "l"(global), "r"(bytes), "r"(barrier)
      : "memory");
}

// The same value in all lanes, so that the compiler can keep what follows from it in uniform
// registers, which descriptors and copies want, and does not compute it anew each time.
__device__ inline uint32_t uniform(uint32_t x) { return __shfl_sync(0xffffffffu, x, 0); }

// ---- The copying warpgroup

template <typename S>
__device__ void load_weights(const TileSequence<S>& tiles, uint32_t shared,
                             const CUtensorMap* weight, uint32_t full, int depth, int column) {
  if constexpr (S::kCluster == 1)
    load_box(shared, weight, full, depth * kDepth, column);
  else
    load_box_to_blocks(shared + tiles.rank * S::kPartBytes, weight, full, depth * kDepth,
                       column + tiles.rank * S::kPartCols, (1 << S::kCluster) - 1);
}

// No kernel of a run writes weights: the first tile's fill the ring while the kernel before drains.
// Returns how many stages wait for `in` alone.
template <typename S>
__device__ int load_first_weights(const Parameters& p, const TileSequence<S>& tiles,
                                  const SharedMemory<S>& shared, const CUtensorMap* weight) {
  const int depths = min(p.num_depths, shared.stages);
  for (int depth = 0; depth < depths; ++depth) {
    barrier_arrive_expect(shared.full(depth), S::kStageBytes);
    load_weights<S>(tiles, shared.weight(depth), weight, shared.full(depth), depth,
                    tiles.column(0));
  }
  return depths;
}

template <typename S>
__device__ void load_tiles(const Parameters& p, const TileSequence<S>& tiles,
                           const SharedMemory<S>& shared, const CUtensorMap* in,
                           const CUtensorMap* weight, int have_weights) {
  RingPosition at{shared.stages};
  for (int i = 0, count = 1; i < count; ++i) {
    const int row = tiles.row(i);
    const int column = tiles.column(i);
    for (int depth = 0; depth < p.num_depths; ++depth, at.advance()) {
      const uint32_t full = shared.full(at.stage);
      if (i > 0 || depth >= have_weights) {
        // A fresh barrier counts as having ended a phase of parity 1: the first round does not wait.
        barrier_wait(shared.empty(at.stage), at.parity ^ 1);
        barrier_arrive_expect(full, S::kStageBytes);
        load_weights<S>(tiles, shared.weight(at.stage), weight, full, depth, column);
      }
      load_box(shared.in(at.stage), in, full, depth * kDepth, row);
    }
    if (i == 0) count = tiles.count(p);
  }
}

template <typename S>
__device__ void serve_group(const Parameters& p, const TileSequence<S>& tiles,
                            const SharedMemory<S>& shared, int group, const CUtensorMap* residual,
                            const CUtensorMap* out) {
  const uint32_t staging = shared.staging(group);
  const uint32_t ready = shared.ready(group);
  const int count = tiles.count(p);
  uint32_t parity = 0;
  for (int i = group; i < count; i += S::kGroups, parity ^= 1) {
    const int row = tiles.row(i);
    const int column = tiles.column(i);
    const uint32_t bias_bytes = min(S::kCols, p.num_biases - column) * 4;
    // This also says that the buffer is free.
    barrier_arrive_expect(ready, bias_bytes + (p.has_residual ? S::kStagingBytes : 0));
    load_bytes(shared.bias(group), p.bias + column, bias_bytes, ready);
    if (p.has_residual)
      for (int box = 0; box < S::kBoxes; ++box)
        load_box(staging + box * S::kBoxBytes, residual, ready, column + box * S::kBoxCols, row);
    barrier_wait(shared.written(group), parity);
    for (int box = 0; box < S::kBoxes; ++box)
      store_box(out, staging + box * S::kBoxBytes, column + box * S::kBoxCols, row);
    commit_stores();
    wait_stores_read();
  }
}

// ---- The multiplying warpgroups

// Each warp for itself: that its own products are done says nothing of the group's other warps. All
// blocks of the cluster are told, as each brings weights here.
template <typename S>
__device__ void release_stage(uint32_t empty) {
  const int lane = threadIdx.x % 32;
  if constexpr (S::kCluster == 1) {
    if (lane == 0) barrier_arrive(empty);
  } else {
    if (lane < S::kCluster) barrier_arrive_at(empty, lane);
  }
}

// Issues all products of a tile, of which the last stage's may still be in flight afterwards and
// hold their stage: the caller waits and releases `at.stage` less one.
template <typename T, typename S, int blocks>
__device__ void multiply(float (&sums)[blocks][S::kCols / 2], RingPosition& at,
                         const SharedMemory<S>& shared, int num_depths) {
  // Addresses are in the low half, in units of 16 bytes, and cannot carry out of it.
  const uint64_t in = matrix_descriptor(shared.in(0), Swizzle::k128, 1024);
  const uint32_t in_low = static_cast<uint32_t>(in);
  const uint32_t weight_low =
      static_cast<uint32_t>(matrix_descriptor(shared.weight(0), Swizzle::k128, 1024));
  const uint64_t high = in >> 32 << 32;
#pragma unroll
  for (int block = 0; block < blocks; ++block) wgmma_pin(sums[block]);
  int previous = 0;
  for (int depth = 0; depth < num_depths; ++depth, at.advance()) {
    barrier_wait(shared.full(at.stage), at.parity);
    const uint32_t stage = at.stage * (S::kStageBytes / 16);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k)
#pragma unroll
      for (int block = 0; block < blocks; ++block)
        wgmma_shared<T, S::kCols>(sums[block],
                                  high | (in_low + stage + block * (64 * kRowBytes / 16) + 2 * k),
                                  high | (weight_low + stage + 2 * k), k > 0 || depth > 0);
    wgmma_commit();
    // One stage late, so that the tensor cores always have products queued.
    wgmma_wait<1>();
    if (depth > 0) release_stage<S>(shared.empty(previous));
    previous = at.stage;
  }
}

template <typename T, typename S, Activations activations>
__device__ void multiply_tiles(const Parameters& p, const TileSequence<S>& tiles,
                               const SharedMemory<S>& shared, int group) {
  constexpr int turn_barrier = 1;  // of group 0; the next is that of group 1
  RingPosition at{shared.stages};
  uint32_t parity = 0;
  if (group == 1) at.advance(p.num_depths);

  const int count = tiles.count(p);
  for (int i = group; i < count; i += S::kGroups, parity ^= 1) {
    // Were the groups' products mixed, both would reach their epilogues at the same time and leave
    // the tensor cores idle. The turn passes while the last products are still in flight.
    if (S::kGroups > 1 && i > 0) named_sync(turn_barrier + group, 2 * kGroupThreads);
    float sums[S::kRows / 64][S::kCols / 2];
    multiply<T, S>(sums, at, shared, p.num_depths);
    if (S::kGroups > 1 && i + 1 < count)
      named_arrive(turn_barrier + (group ^ 1), 2 * kGroupThreads);
    wgmma_wait<0>();
#pragma unroll
    for (int block = 0; block < S::kRows / 64; ++block) wgmma_pin(sums[block]);
    release_stage<S>(shared.empty((at.stage == 0 ? shared.stages : at.stage) - 1));
    if (S::kGroups > 1) at.advance(p.num_depths);  // the other group's tile

    barrier_wait(shared.ready(group), parity);
    stage_results<T, S, activations>(p, sums, shared.staging(group), shared.bias(group));
    // Every thread for itself: it has read its biases and made its results known to the copy engine.
    shared_fence();
    barrier_arrive(shared.written(group));
  }
}

// ---- The kernel

// The block's shared memory, from the first aligned place on.
template <typename S>
__device__ SharedMemory<S> shared_memory(const Parameters& p) {
  extern __shared__ uint8_t dynamic_shared[];
  constexpr uint32_t alignment = S::kAlignment;
  const uint32_t address = shared_address(dynamic_shared);
  return {uniform((address + alignment - 1) / alignment * alignment), num_stages<S>(p)};
}

template <typename S>
__device__ void init_barriers(const SharedMemory<S>& shared) {
  for (int stage = 0; stage < shared.stages; ++stage) {
    barrier_init(shared.full(stage), 1);
    barrier_init(shared.empty(stage), 4 * S::kCluster);  // warps
  }
  for (int group = 0; group < S::kGroups; ++group) {
    barrier_init(shared.ready(group), 1);
    barrier_init(shared.written(group), kGroupThreads);
  }
  barrier_init_fence();
}

template <typename T, typename S, Activations activations>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gemm_kernel(const __grid_constant__ CUtensorMap in, const __grid_constant__ CUtensorMap weight,
                const __grid_constant__ CUtensorMap residual,
                const __grid_constant__ CUtensorMap out, const Parameters p) {
  const SharedMemory<S> shared = shared_memory<S>(p);
  const int group = static_cast<int>(uniform(threadIdx.x / kGroupThreads));
  const TileSequence<S> tiles(p.tiles_across);
  int have_weights = 0;
  if (threadIdx.x == 0) {
    init_barriers(shared);
    prefetch_map(&in);
    prefetch_map(&weight);
    prefetch_map(&residual);
    prefetch_map(&out);
    if (S::kCluster == 1) have_weights = load_first_weights<S>(p, tiles, shared, &weight);
  }
  if constexpr (S::kCluster > 1) {
    cluster_sync_relaxed();  // behind the fence of init_barriers()
    if (threadIdx.x == 0) have_weights = load_first_weights<S>(p, tiles, shared, &weight);
  } else {
    __syncthreads();
  }
  wait_for_previous();

  // Of two groups' blocks 40 + 2 × 232 registers for each of 128 threads: the whole file.
  if (group == 0) {
    if constexpr (S::kGroups > 1) lower_registers<40>();
    if (threadIdx.x == 0)
      load_tiles<S>(p, tiles, shared, &in, &weight, have_weights);
    else if (threadIdx.x == 32 || (S::kGroups > 1 && threadIdx.x == 64))
      serve_group<S>(p, tiles, shared, threadIdx.x / 32 - 1, &residual, &out);
  } else {
    if constexpr (S::kGroups > 1) raise_registers<232>();
    multiply_tiles<T, S, activations>(p, tiles, shared, group - 1);
  }
  // Others may still bring weights here, or tell this block that a stage is free.
  if constexpr (S::kCluster > 1) cluster_sync();
}

}  // namespace vlt::cuda::hopper
