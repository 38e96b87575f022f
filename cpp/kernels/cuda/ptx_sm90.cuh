// Instructions of sm_90a: memory barriers with transaction counts, the tensor copy engine (TMA),
// and the matrix product of a warpgroup (wgmma).
#pragma once

#include <cuda.h>

#include "kernels/cuda/ptx_sm80.cuh"

namespace vlt::cuda {

// ---- mbarrier: 8 bytes of shared memory; `phase` flips each time all arrivals and bytes are in.

__device__ inline void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// Makes initialised barriers visible to the copy engine.
__device__ inline void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives and announces bytes that the copy engine will add.
__device__ inline void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Waits for the end of the phase with this parity.
__device__ inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// ---- Clusters: blocks that run at the same time and reach each other's shared memory

// Waits for all threads of all blocks of the cluster, and for what they have done to each other's
// shared memory.
__device__ inline void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
}
// The same in two steps, between which others may still work; nothing is published that a fence
// before them does not publish.
__device__ inline void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
__device__ inline void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
__device__ inline void cluster_sync_relaxed() {
  cluster_arrive_relaxed();
  cluster_wait();
}
// Arrives at the barrier that lies in block `block` where `barrier` lies in this one. Relaxed: it
// publishes no writes, which would take a fence of the whole device's memory, but only says that
// products have been computed.
__device__ inline void barrier_arrive_at(uint32_t barrier, uint32_t block) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(barrier),
      "r"(block)
      : "memory");
}

// `bytes` (a multiple of 16, as are the addresses) of this block's shared memory to the place `to` of
// block `block`, whose `barrier` counts them. Each writer calls shared_fence() before the barrier
// that precedes this; this block stays until they have arrived.
__device__ inline void send_bytes(uint32_t to, uint32_t from, uint32_t bytes, uint32_t barrier,
                                  uint32_t block) {
  asm volatile(
      "{\n"
      ".reg .b32 there, counted;\n"
      "mapa.shared::cluster.u32 there, %0, %4;\n"
      "mapa.shared::cluster.u32 counted, %3, %4;\n"
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [there], [%1], %2, "
      "[counted];\n"
      "}" ::"r"(to),
      "r"(from), "r"(bytes), "r"(barrier), "r"(block)
      : "memory");
}

// ---- Named barriers

// Barriers 1 … 15 among `threads` threads of a block.
__device__ inline void named_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void named_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// ---- The copy engine. Boxes and swizzling are in the tensor map, a __grid_constant__ parameter.

__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}
// A box at (column, row) of a matrix into shared memory; outside the matrix it is zeros.
__device__ inline void load_box(uint32_t shared, const CUtensorMap* map, uint32_t barrier,
                                int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%3, %4}], [%2];" ::"r"(shared),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}
// The same into all blocks of the cluster whose bits are set in `blocks`, at the same places of
// their shared memory as here.
__device__ inline void load_box_to_blocks(uint32_t shared, const CUtensorMap* map, uint32_t barrier,
                                          int column, int row, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(barrier), "r"(column), "r"(row), "h"(blocks)
      : "memory");
}
// A box from shared memory. Rows outside the matrix are not written, nor are columns, but these are
// cut in units of 16 bytes. Each writer of the box calls shared_fence() before the barrier that
// precedes this.
__device__ inline void store_box(const CUtensorMap* map, uint32_t shared, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
                   reinterpret_cast<uint64_t>(map)),
               "r"(shared), "r"(column), "r"(row)
               : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Waits until this thread's stores have read their shared memory.
__device__ inline void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
// Orders ordinary writes to shared memory before later reads by the copy engine or wgmma.
__device__ inline void shared_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- wgmma

// How rows of an operand lie in shared memory: `kRow` bytes a row, 16-byte chunks exchanged within
// 8 rows, as the tensor map of the same width wrote them. 1024-byte (8-row) aligned tiles.
enum class Swizzle : uint64_t { k128 = 1, k64 = 2, k32 = 3 };

// The descriptor of an operand tile. stride: bytes between groups of 8 rows; leading: bytes between
// columns of atoms, used only by operands that are not K-major and wider than one atom.
__device__ inline uint64_t matrix_descriptor(uint32_t shared, Swizzle swizzle, uint32_t stride,
                                             uint32_t leading = 16) {
  return static_cast<uint64_t>((shared & 0x3ffff) >> 4) |
         static_cast<uint64_t>(leading >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
         static_cast<uint64_t>(swizzle) << 62;
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int pending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Keeps the compiler from moving accesses to an accumulator across a wgmma in flight.
template <int count>
__device__ void wgmma_pin(float (&accumulator)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(accumulator[i])::"memory");
}

// Registers a warpgroup may use from here on; all its warps call it, multiples of 8.
template <int count>
__device__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

}  // namespace vlt::cuda
